// SPDX-License-Identifier: GPL-2.0
/*
 * Drives every command that KVM has for SEV and SEV-ES guests, with good and bad arguments and in
 * good and bad states, and prints what came back, one line per call, for comparing one ccp.ko under
 * the stock kvm-amd.ko with another: this is the way into the API that ccp exports.
 *
 *	sev-kvm DIRECTORY	all of it; DIRECTORY has the certificates of the platform
 *
 * What is random or depends on addresses is not printed.
 */
#include "scenarios.h"

#include <stdio.h>
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
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 2) {
		fprintf(stderr, "sev-kvm: usage: sev-kvm DIRECTORY\n");
		return 2;
	}
	if (!open_devices()) {
		perror("sev-kvm: open");
		return 1;
	}
	return play(argv[1]);
}
