// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE

#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int kvm, sev, other;

bool open_devices(void)
{
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	other = open("/dev/null", O_RDWR | O_CLOEXEC);
	return kvm >= 0 && sev >= 0 && other >= 0;
}

int guest_create(struct guest *g, const char *name, int type)
{
	*g = (struct guest){ .name = name, .type = type, .vm = -1, .vcpu = -1 };
	g->vm = ioctl(kvm, KVM_CREATE_VM, type);
	if (g->vm < 0)
		return -1;
	g->memory = mmap(NULL, MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->memory == MAP_FAILED) {
		g->memory = NULL;
		guest_destroy(g);
		return -1;
	}
	for (size_t i = 0; i < MEMORY_PAGES * PAGE; i++)
		g->memory[i] = i * 7 + i / PAGE;
	return 0;
}

void guest_destroy(struct guest *g)
{
	if (g->vcpu >= 0)
		close(g->vcpu);
	if (g->vm >= 0)
		close(g->vm);
	if (g->memory)
		munmap(g->memory, MEMORY_PAGES * PAGE);
	g->vcpu = -1;
	g->vm = -1;
	g->memory = NULL;
}

int guest_add_vcpu(struct guest *g)
{
	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	return g->vcpu < 0 ? errno : 0;
}

int issue(const struct guest *g, uint32_t id, void *data, int fd, uint32_t *error)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = ptr(data), .error = *error, .sev_fd = fd };
	int err = ioctl(g->vm, KVM_MEMORY_ENCRYPT_OP, &cmd) ? errno : 0;

	*error = cmd.error;
	return err;
}

int op_with(const struct guest *g, const char *what, uint32_t id, void *data, int fd)
{
	uint32_t error = UNTOUCHED;
	int err = issue(g, id, data, fd, &error);

	say(g, "%s %s error=%#x", what, errno_name(err), error);
	return err;
}

int op(const struct guest *g, const char *what, uint32_t id, void *data)
{
	return op_with(g, what, id, data, sev);
}

int said(const struct guest *g, const char *what, int ret)
{
	int err = ret < 0 ? errno : 0;

	say(g, "%s %s", what, errno_name(err));
	return err;
}

void say(const struct guest *g, const char *format, ...)
{
	va_list arguments;

	printf("%s: ", g->name);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

int guest_count(void)
{
	struct sev_user_data_status status = { 0 };
	struct sev_issue_cmd cmd = { .cmd = SEV_PLATFORM_STATUS, .data = ptr(&status) };

	return ioctl(sev, SEV_ISSUE_CMD, &cmd) ? -1 : (int)status.guest_count;
}

void say_count(const char *name)
{
	printf("%s: guests %d\n", name, guest_count());
}

const char *errno_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "OK";

	return name ? name : "unknown";
}

uint64_t digest(const void *mem, size_t len)
{
	const uint8_t *p = mem;
	uint64_t h = 0xcbf29ce484222325ull;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}

uint64_t ptr(const void *mem)
{
	return (uintptr_t)mem;
}

size_t read_file(const char *directory, const char *name, void *mem, size_t room)
{
	char path[4096];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, mem, room);
	close(fd);
	return len < 0 ? 0 : len;
}
