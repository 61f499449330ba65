/* SPDX-License-Identifier: GPL-2.0 */
/* Many guests at once. */
#ifndef SEV_KVM_STORM_H
#define SEV_KVM_STORM_H

/*
 * storm SEED SECONDS LAUNCHERS CALLERS kill|let
 *
 * Processes that launch guests and processes that call /dev/sev, all the time; with `kill` they are
 * killed and replaced at random moments. Prints what was answered how often, how many processes were
 * killed, and how many guests the firmware has when all are gone.
 */
int storm(int argc, char **argv);

/*
 * fill ROUNDS
 *
 * Starts guests of each type until KVM or the firmware has no more room, and ends them all; again
 * and again. Prints how many there were and what the next one was told.
 */
int fill(int argc, char **argv);

#endif
