// SPDX-License-Identifier: GPL-2.0
/*
 * Drives the commands that KVM has for SEV and SEV-ES guests; the firmware's side of it is the API
 * that ccp.ko exports.
 *
 *	sev-kvm every DIRECTORY	every command, with good and bad arguments and in good and bad states;
 *				DIRECTORY has the certificates of the platform
 *	sev-kvm storm ...	many guests at once, killed at random moments (storm.h)
 *	sev-kvm fill ROUNDS	as many guests as there can be (storm.h)
 *
 * `every` prints what came back, one line per call, for comparing one ccp.ko under the stock
 * kvm-amd.ko with another. What is random or depends on addresses is not printed.
 */
#include "scenarios.h"
#include "storm.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int play(const char *certificates)
{
	static struct session session;
	static struct chain chain;

	/* KVM takes descriptor 0 for /dev/sev until it is told otherwise. */
	dup2(other, 0);
	printf("vm types %#x\n", ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES));
	if (!chain_read(&chain, certificates)) {
		fprintf(stderr, "sev-kvm: the platform's certificates are not there\n");
		return 1;
	}
	play_refusals("a plain VM", KVM_X86_DEFAULT_VM);
	play_refusals("sev", KVM_X86_SEV_VM);
	play_refusals("sev-es", KVM_X86_SEV_ES_VM);
	play_refusals("snp", KVM_X86_SNP_VM);
	play_launch("sev", KVM_X86_SEV_VM, 0, NULL);
	play_launch("sev-es", KVM_X86_SEV_ES_VM, POLICY_ES, NULL);
	play_launch("sev nodbg", KVM_X86_SEV_VM, POLICY_NODBG | POLICY_NOSEND, NULL);
	for (int es = 0; es < 2; es++) {
		uint32_t policy = es ? POLICY_ES | POLICY_NODBG : 0;

		if (!owner_session(&session, &chain, policy)) {
			fprintf(stderr, "sev-kvm: sevctl makes no session\n");
			return 1;
		}
		play_launch(es ? "sev-es nodbg with an owner" : "sev with an owner",
			    es ? KVM_X86_SEV_ES_VM : KVM_X86_SEV_VM, policy, &session);
	}
	play_migration("sent", KVM_X86_SEV_VM, 0, &chain);
	play_migration("sent to a platform", KVM_X86_SEV_VM, POLICY_SEV | POLICY_NODBG, &chain);
	play_migration("not to be sent", KVM_X86_SEV_VM, POLICY_NOSEND, &chain);
	play_migration("sent sev-es", KVM_X86_SEV_ES_VM, POLICY_ES, &chain);
	play_context("shared sev", KVM_X86_SEV_VM);
	play_context("shared sev-es", KVM_X86_SEV_ES_VM);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!open_devices()) {
		perror("sev-kvm: open");
		return 1;
	}
	if (!strcmp(what, "every") && argc == 3)
		return play(argv[2]);
	if (!strcmp(what, "storm"))
		return storm(argc - 1, argv + 1);
	if (!strcmp(what, "fill"))
		return fill(argc - 1, argv + 1);
	fprintf(stderr, "sev-kvm: usage: sev-kvm every DIRECTORY, sev-kvm storm ..., sev-kvm fill ROUNDS\n");
	return 2;
}
