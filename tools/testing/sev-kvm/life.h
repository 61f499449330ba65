/* SPDX-License-Identifier: GPL-2.0 */
/* Lives of guests and calls of /dev/sev as chance has it, counted in answers.h. */
#ifndef SEV_KVM_LIFE_H
#define SEV_KVM_LIFE_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers that follow from a seed: xorshift64. */
struct chance {
	uint64_t state;
};

/* A number below `limit`. */
uint32_t chance_below(struct chance *chance, uint32_t limit);

/* Exports the PDH, which sending needs; whether that worked. */
bool lives_prepare(void);

/* One guest, perhaps with a mirror, moved or sent, from KVM_CREATE_VM to its end. */
void live(struct chance *chance);

/* Some calls of a /dev/sev that is opened for them. */
void call(struct chance *chance);

#endif
