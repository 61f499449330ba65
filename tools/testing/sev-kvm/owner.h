/* SPDX-License-Identifier: GPL-2.0 */
/* A guest's owner, played by sevctl: opens a session with the platform and encrypts a secret. */
#ifndef SEV_KVM_OWNER_H
#define SEV_KVM_OWNER_H

#include "chain.h"

struct session {
	uint8_t certificate[CERT_LEN], blob[SESSION_LEN];
};

struct secret {
	uint8_t header[HEADER_LEN], payload[256];
	uint32_t payload_len;
};

/* Opens a session for a policy; whether sevctl did. */
bool owner_session(struct session *session, const struct chain *chain, uint32_t policy);

/* Encrypts a secret, always the same, for the guest of the last session that was so measured. */
bool owner_secret(struct secret *secret, const uint8_t *measurement);

#endif
