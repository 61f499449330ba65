/* SPDX-License-Identifier: GPL-2.0 */
/* What can be found out about a guest at any time: its state, its memory, its report. */
#ifndef SEV_KVM_INSPECT_H
#define SEV_KVM_INSPECT_H

#include "guest.h"

/* Prints GUEST_STATUS. */
void say_status(const struct guest *g);

/* Prints a digest of what a debugger sees at `from` of the guest's memory; at most four pages. */
void look(const struct guest *g, const char *what, const uint8_t *from, uint32_t len);

/* DBG_DECRYPT and DBG_ENCRYPT, well and badly used, on the guest's pages 2 to 5. */
void play_debug(const struct guest *g);

/* GET_ATTESTATION_REPORT, well and badly used. */
void play_report(const struct guest *g, const char *when);

/* A page between two that are not mapped; NULL if there is none. */
uint8_t *lone_page(int protection);

#endif
