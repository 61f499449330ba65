// SPDX-License-Identifier: GPL-2.0
#include "storm.h"

#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* More than any model has ASIDs. */
#define GUESTS_MAX 2048

static struct guest guests[GUESTS_MAX];

/* Starts guests of a type from the index `have` on until one is refused; how many there are then. */
static int fill_with(const char *name, int type, uint32_t policy, int have)
{
	int first = have;

	while (have < GUESTS_MAX) {
		struct guest *g = &guests[have];
		struct kvm_sev_launch_start start = { .policy = policy };
		struct kvm_sev_init init = { 0 };
		uint32_t error = UNTOUCHED;
		int err;

		if (guest_create(g, name, type)) {
			/* A type that this processor does not have is none to fill. */
			if (have > first || errno != EINVAL)
				perror("sev-kvm: fill");
			break;
		}
		err = issue(g, KVM_SEV_INIT2, &init, sev, &error);
		if (!err)
			err = issue(g, KVM_SEV_LAUNCH_START, &start, sev, &error);
		if (err) {
			say(g, "%d guests, then %s error=%#x", have - first, errno_name(err), error);
			guest_destroy(g);
			break;
		}
		have++;
	}
	return have;
}

int fill(int argc, char **argv)
{
	struct rlimit files = { .rlim_cur = 2 * GUESTS_MAX, .rlim_max = 2 * GUESTS_MAX };
	int rounds = argc == 2 ? atoi(argv[1]) : 0;

	if (rounds <= 0) {
		fprintf(stderr, "sev-kvm: usage: sev-kvm fill ROUNDS\n");
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &files)) {
		perror("sev-kvm: RLIMIT_NOFILE");
		return 1;
	}
	while (rounds-- > 0) {
		int have = fill_with("sev-es", KVM_X86_SEV_ES_VM, POLICY_ES, 0);

		have = fill_with("sev", KVM_X86_SEV_VM, 0, have);
		say_count("full");
		while (have > 0)
			guest_destroy(&guests[--have]);
		say_count("empty");
	}
	return 0;
}
