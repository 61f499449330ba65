// SPDX-License-Identifier: GPL-2.0
/*
 * Starts SEV guests through KVM as far as the emulated PSP goes and prints what came back, one line
 * per call, for comparing one ccp.ko under the stock kvm-amd.ko with another: this is the way into
 * the API that ccp exports.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* What `error` holds before a call. */
#define UNTOUCHED 0x5a5a5a5au
#define CERT_LEN 2084

static int kvm, sev, other;

static void op(const char *name, int vm, uint32_t id, void *data, int fd)
{
	struct kvm_sev_cmd cmd = {
		.id = id, .data = (uintptr_t)data, .error = UNTOUCHED, .sev_fd = fd,
	};
	int ret = ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd);

	printf("%s %s error=%#x\n", name, ret ? strerror(errno) : "OK", cmd.error);
}

static void guest(const char *kind, int type)
{
	static uint8_t certificate[CERT_LEN + 1], session[128];
	struct kvm_sev_init init = { 0 };
	struct kvm_sev_launch_start start = { .policy = type == KVM_X86_SEV_ES_VM ? 4 : 0 };
	struct kvm_sev_guest_status status = { 0 };
	int vm = ioctl(kvm, KVM_CREATE_VM, type);

	printf("%s vm %s\n", kind, vm < 0 ? strerror(errno) : "OK");
	if (vm < 0)
		return;
	op("init", vm, KVM_SEV_INIT2, &init, sev);
	op("init again", vm, KVM_SEV_INIT2, &init, sev);
	op("launch_start", vm, KVM_SEV_LAUNCH_START, &start, sev);
	op("launch_start without /dev/sev", vm, KVM_SEV_LAUNCH_START, &start, other);
	op("launch_start without a file", vm, KVM_SEV_LAUNCH_START, &start, -1);
	start.dh_uaddr = (uintptr_t)certificate;
	start.dh_len = CERT_LEN;
	start.session_uaddr = (uintptr_t)session;
	start.session_len = sizeof(session);
	op("launch_start with a session", vm, KVM_SEV_LAUNCH_START, &start, sev);
	start.dh_len = 16 * 1024 + 1;
	op("launch_start with a long certificate", vm, KVM_SEV_LAUNCH_START, &start, sev);
	start.dh_uaddr = 0xdead000;
	start.dh_len = CERT_LEN;
	op("launch_start with a bad address", vm, KVM_SEV_LAUNCH_START, &start, sev);
	op("guest_status", vm, KVM_SEV_GUEST_STATUS, &status, sev);
	close(vm);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	other = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || sev < 0 || other < 0) {
		perror("sev-kvm: open");
		return 1;
	}
	printf("vm types %#x\n", ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES));
	guest("sev", KVM_X86_SEV_VM);
	guest("sev-es", KVM_X86_SEV_ES_VM);
	guest("snp", KVM_X86_SNP_VM);
	return 0;
}
