// SPDX-License-Identifier: GPL-2.0
#include "scenarios.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Room for any command's struct. */
static uint8_t zeroes[256];

static const struct {
	const char *name;
	uint32_t id;
} commands[] = {
	{ "launch_start", KVM_SEV_LAUNCH_START },
	{ "launch_update_data", KVM_SEV_LAUNCH_UPDATE_DATA },
	{ "launch_update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA },
	{ "launch_measure", KVM_SEV_LAUNCH_MEASURE },
	{ "launch_secret", KVM_SEV_LAUNCH_SECRET },
	{ "launch_finish", KVM_SEV_LAUNCH_FINISH },
	{ "guest_status", KVM_SEV_GUEST_STATUS },
	{ "dbg_decrypt", KVM_SEV_DBG_DECRYPT },
	{ "dbg_encrypt", KVM_SEV_DBG_ENCRYPT },
	{ "cert_export", KVM_SEV_CERT_EXPORT },
	{ "get_attestation_report", KVM_SEV_GET_ATTESTATION_REPORT },
	{ "send_start", KVM_SEV_SEND_START },
	{ "send_update_data", KVM_SEV_SEND_UPDATE_DATA },
	{ "send_update_vmsa", KVM_SEV_SEND_UPDATE_VMSA },
	{ "send_finish", KVM_SEV_SEND_FINISH },
	{ "send_cancel", KVM_SEV_SEND_CANCEL },
	{ "receive_start", KVM_SEV_RECEIVE_START },
	{ "receive_update_data", KVM_SEV_RECEIVE_UPDATE_DATA },
	{ "receive_update_vmsa", KVM_SEV_RECEIVE_UPDATE_VMSA },
	{ "receive_finish", KVM_SEV_RECEIVE_FINISH },
	{ "snp_launch_start", KVM_SEV_SNP_LAUNCH_START },
	{ "snp_launch_update", KVM_SEV_SNP_LAUNCH_UPDATE },
	{ "snp_launch_finish", KVM_SEV_SNP_LAUNCH_FINISH },
	{ "unknown", 0x7fffffff },
};

/* Each command with a struct of zeroes, and with none; but those named until `from` make a guest. */
static void each_command(const struct guest *g, const char *when, size_t from)
{
	for (size_t i = from; i < sizeof(commands) / sizeof(*commands); i++) {
		char what[64];

		snprintf(what, sizeof(what), "%s: %s", when, commands[i].name);
		op(g, what, commands[i].id, zeroes);
		snprintf(what, sizeof(what), "%s: %s with a bad address", when, commands[i].name);
		op(g, what, commands[i].id, (void *)BAD_ADDR);
	}
}

/* Which of the regions below is registered twice and unregistered once. */
#define REGISTERED_TWICE 5

static void regions(const struct guest *g, const char *when)
{
	const struct {
		const char *name;
		struct kvm_enc_region region;
	} cases[] = {
		{ "nothing", { .addr = ptr(g->memory), .size = 0 } },
		{ "the end of memory", { .addr = -PAGE, .size = 2 * PAGE } },
		{ "what is not mapped", { .addr = BAD_ADDR, .size = PAGE } },
		{ "more than there is", { .addr = ptr(g->memory), .size = 1ull << 40 } },
		{ "a part of a page", { .addr = ptr(g->memory) + 3, .size = 5 } },
		{ "memory", { .addr = ptr(g->memory), .size = MEMORY_PAGES * PAGE } },
		{ "it again", { .addr = ptr(g->memory), .size = MEMORY_PAGES * PAGE } },
	};
	char what[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct kvm_enc_region region = cases[i].region;

		snprintf(what, sizeof(what), "%s: register %s", when, cases[i].name);
		said(g, what, ioctl(g->vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region));
	}
	/* What is left registered goes with the VM. */
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct kvm_enc_region region = cases[i].region;

		snprintf(what, sizeof(what), "%s: unregister %s", when, cases[i].name);
		if (i != REGISTERED_TWICE)
			said(g, what, ioctl(g->vm, KVM_MEMORY_ENCRYPT_UNREG_REGION, &region));
	}
}

static void init(struct guest *g)
{
	static const struct {
		const char *name;
		struct kvm_sev_init init;
	} odd[] = {
		{ "a flag", { .flags = 1 } },
		{ "all flags", { .flags = -1u } },
		{ "features nobody has", { .vmsa_features = 1ull << 63 } },
		{ "a GHCB of the future", { .ghcb_version = 3 } },
	};
	struct kvm_sev_init good = { 0 };
	char what[64];

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		struct kvm_sev_init bad = odd[i].init;

		snprintf(what, sizeof(what), "init with %s", odd[i].name);
		op(g, what, KVM_SEV_INIT2, &bad);
	}
	op(g, "init with a bad address", KVM_SEV_INIT2, (void *)BAD_ADDR);
	op(g, "init of old", KVM_SEV_INIT, NULL);
	op(g, "es_init of old", KVM_SEV_ES_INIT, NULL);
	op_with(g, "init without a file", KVM_SEV_INIT2, &good, -1);
	op(g, "init again", KVM_SEV_INIT2, &good);
}

/* The ioctl itself, whose argument is a struct kvm_sev_cmd. */
static void argument(const struct guest *g)
{
	struct kvm_sev_cmd *cmd = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	said(g, "no argument", ioctl(g->vm, KVM_MEMORY_ENCRYPT_OP, NULL));
	said(g, "a bad argument", ioctl(g->vm, KVM_MEMORY_ENCRYPT_OP, (void *)BAD_ADDR));
	if (cmd == MAP_FAILED)
		return;
	*cmd = (struct kvm_sev_cmd){ .id = KVM_SEV_LAUNCH_FINISH, .sev_fd = sev };
	mprotect(cmd, PAGE, PROT_READ);
	said(g, "an argument that cannot be written", ioctl(g->vm, KVM_MEMORY_ENCRYPT_OP, cmd));
	munmap(cmd, PAGE);
}

void play_refusals(const char *name, int type)
{
	struct kvm_sev_init init2 = { 0 };
	struct guest g;

	if (guest_create(&g, name, type)) {
		printf("%s: vm %s\n", name, errno_name(errno));
		return;
	}
	each_command(&g, "no init", 0);
	regions(&g, "no init");
	init(&g);
	argument(&g);
	/* Until LAUNCH_START, KVM takes descriptor 0 for /dev/sev; once it is not, once it is. */
	each_command(&g, "no start", 1);
	dup2(sev, 0);
	each_command(&g, "no start, sev is 0", 1);
	dup2(other, 0);
	regions(&g, "no start");
	guest_destroy(&g);

	if (guest_create(&g, name, type))
		return;
	say(&g, "vcpu first %s", errno_name(guest_add_vcpu(&g)));
	op(&g, "init after a vcpu", KVM_SEV_INIT2, &init2);
	guest_destroy(&g);
	say_count(name);
}
