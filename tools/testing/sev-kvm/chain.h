/* SPDX-License-Identifier: GPL-2.0 */
/* The platform's certificates, as its guests' owners and other platforms want to see them. */
#ifndef SEV_KVM_CHAIN_H
#define SEV_KVM_CHAIN_H

#include "guest.h"

struct chain {
	uint8_t pdh[CERT_LEN];
	/* PEK, OCA, CEK. */
	uint8_t platform[3 * CERT_LEN];
	/* ASK and ARK, in AMD's own format. */
	uint8_t amd[2 * (64 + 3 * 512)];
	size_t amd_len;
};

/*
 * Exports PDH, PEK and OCA from the firmware and reads what AMD's key server would tell, `cek.cert`
 * and `ask_ark.cert`, from a directory; whether all are there.
 */
bool chain_read(struct chain *chain, const char *directory);

#endif
