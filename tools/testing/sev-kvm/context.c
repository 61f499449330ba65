// SPDX-License-Identifier: GPL-2.0
#include "inspect.h"
#include "scenarios.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void enable(const struct guest *g, const char *what, uint32_t cap, int source)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { source } };

	said(g, what, ioctl(g->vm, KVM_ENABLE_CAP, &enable));
}

static void mirror(const struct guest *g, const char *what, int source)
{
	enable(g, what, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, source);
}

static void move(const struct guest *g, const char *what, int source)
{
	enable(g, what, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, source);
}

static void launch(struct guest *g)
{
	struct kvm_sev_launch_start start = { .policy = g->type == KVM_X86_SEV_ES_VM ? POLICY_ES : 0 };
	struct kvm_sev_launch_update_data update = { .uaddr = ptr(g->memory), .len = PAGE };
	struct kvm_sev_init init = { 0 };

	op(g, "init", KVM_SEV_INIT2, &init);
	op(g, "launch_start", KVM_SEV_LAUNCH_START, &start);
	op(g, "update_data", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
}

/* Commands that some VMs may use and some may not. */
static void use(const struct guest *g, const uint8_t *memory)
{
	struct kvm_sev_launch_update_data update = { .uaddr = ptr(g->memory), .len = PAGE };
	struct kvm_enc_region region = { .addr = ptr(g->memory), .size = PAGE };
	struct kvm_sev_launch_start start = { 0 };
	struct kvm_sev_init init = { 0 };

	op(g, "init", KVM_SEV_INIT2, &init);
	op(g, "launch_start", KVM_SEV_LAUNCH_START, &start);
	op(g, "update_data", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
	op(g, "update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	say_status(g);
	look(g, "decrypt", memory, PAGE);
	said(g, "register", ioctl(g->vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region));
	said(g, "unregister", ioctl(g->vm, KVM_MEMORY_ENCRYPT_UNREG_REGION, &region));
}

static bool create(struct guest *g, const char *name, int type)
{
	if (!guest_create(g, name, type))
		return true;
	printf("%s: vm %s\n", name, errno_name(errno));
	return false;
}

/* A mirror has its owner's context, and keeps it alive. */
static void mirrors(const char *name, int type)
{
	struct guest owner, copy, third;

	if (!create(&owner, name, type) || !create(&copy, name, type) || !create(&third, name, type))
		return;
	mirror(&copy, "mirror of nothing", -1);
	mirror(&copy, "mirror of /dev/sev", sev);
	mirror(&copy, "mirror of itself", copy.vm);
	mirror(&copy, "mirror of a VM without a context", owner.vm);
	launch(&owner);
	mirror(&copy, "mirror", owner.vm);
	mirror(&copy, "mirror again", owner.vm);
	mirror(&third, "mirror of a mirror", copy.vm);
	mirror(&owner, "mirror of its mirror", copy.vm);
	use(&copy, owner.memory);
	say(&third, "vcpu first %s", errno_name(guest_add_vcpu(&third)));
	mirror(&third, "mirror after a vcpu", owner.vm);
	guest_destroy(&third);
	say(&owner, "vcpu %s", errno_name(guest_add_vcpu(&owner)));
	op(&owner, "update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	/* Its memory stays for a last look through the mirror. */
	close(owner.vcpu);
	close(owner.vm);
	owner.vcpu = -1;
	owner.vm = -1;
	say_count(name);
	use(&copy, owner.memory);
	guest_destroy(&copy);
	guest_destroy(&owner);
	say_count(name);
}

/* A context that moves leaves a VM that is dead. */
static void moves(const char *name, int type)
{
	int other_type = type == KVM_X86_SEV_VM ? KVM_X86_SEV_ES_VM : KVM_X86_SEV_VM;
	struct guest from, to, copy, stranger;

	if (!create(&from, name, type) || !create(&to, name, type) || !create(&copy, name, type))
		return;
	move(&to, "move from nothing", -1);
	move(&to, "move from /dev/null", other);
	move(&to, "move from itself", to.vm);
	move(&to, "move from a VM without a context", from.vm);
	launch(&from);
	if (!guest_create(&stranger, name, other_type)) {
		move(&stranger, "move to a VM of another type", from.vm);
		guest_destroy(&stranger);
	}
	mirror(&copy, "mirror", from.vm);
	say(&from, "vcpu %s", errno_name(guest_add_vcpu(&from)));
	move(&to, "move with other vcpus", from.vm);
	if (to.type == KVM_X86_SEV_ES_VM) {
		say(&to, "vcpu %s", errno_name(guest_add_vcpu(&to)));
		move(&to, "move with a vcpu that is not encrypted", from.vm);
		op(&from, "update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
		move(&to, "move", from.vm);
	}
	move(&to, "move again", from.vm);
	op(&from, "the VM that was left", KVM_SEV_LAUNCH_FINISH, NULL);
	/* KVM moves all but the descriptor of /dev/sev: it takes 0 for it. */
	use(&to, from.memory);
	dup2(sev, 0);
	use(&to, from.memory);
	dup2(other, 0);
	say_count(name);
	use(&copy, from.memory);
	guest_destroy(&to);
	say_count(name);
	guest_destroy(&copy);
	guest_destroy(&from);
	say_count(name);
}

void play_context(const char *name, int type)
{
	mirrors(name, type);
	moves(name, type);
}
