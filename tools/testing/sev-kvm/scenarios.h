/* SPDX-License-Identifier: GPL-2.0 */
/* What sev-kvm plays, one function per file. Each prints a line per call. */
#ifndef SEV_KVM_SCENARIOS_H
#define SEV_KVM_SCENARIOS_H

#include "owner.h"

/* Every command before there is a guest, and the ways to KVM_SEV_INIT2. */
void play_refusals(const char *name, int type);

/*
 * A guest from LAUNCH_START to its end, each command also used wrongly. `session` is the owner's, or
 * NULL for a guest without.
 */
void play_launch(const char *name, int type, uint32_t policy, const struct session *session);

/* A guest that is sent to the platform it runs on, and what KVM refuses on the way. */
void play_migration(const char *name, int type, uint32_t policy, struct chain *chain);

/* VMs that share a guest's context or take it over. */
void play_context(const char *name, int type);

#endif
