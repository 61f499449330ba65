/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Encrypted guests of KVM: the files behind them, their memory, and one call per command. Programs
 * of this directory share it.
 */
#ifndef SEV_KVM_GUEST_H
#define SEV_KVM_GUEST_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What `error` and output buffers hold before a call: what is not written stays recognisable. */
#define UNTOUCHED 0x5a5a5a5au
#define FILL 0xa5

/* An address nobody can map. */
#define BAD_ADDR 0xdead000ull

/* Lengths of SEV-API in bytes: certificate, session, packet header, measurement, report. */
#define CERT_LEN 2084
#define SESSION_LEN 128
#define HEADER_LEN 52
#define MEASURE_LEN 48
#define REPORT_LEN 208
/* What the kernel copies for the firmware at most. */
#define BLOB_MAX (16 * 1024)

#define PAGE 4096ul
#define MEMORY_PAGES 8

/* Bits of a policy (SEV-API, "Guest Policy Structure"). */
#define POLICY_NODBG 1u
#define POLICY_NOKS 2u
#define POLICY_ES 4u
#define POLICY_NOSEND 8u
#define POLICY_SEV 32u

/* /dev/kvm, /dev/sev, and a file that is neither. */
extern int kvm, sev, other;

struct guest {
	/* Begins each line that is printed about it. */
	const char *name;
	int type;
	/* File descriptors, -1 where there is none. */
	int vm, vcpu;
	/* MEMORY_PAGES pages. */
	uint8_t *memory;
};

/* Opens the three files; whether that worked. */
bool open_devices(void);

/* Makes a VM of a type; -1 with errno if KVM does not. */
int guest_create(struct guest *g, const char *name, int type);
/* Closes its files and frees its memory, which ends the guest. */
void guest_destroy(struct guest *g);
/* Gives it a vCPU; errno. */
int guest_add_vcpu(struct guest *g);

/* Issues a command, with `fd` for /dev/sev; errno. */
int issue(const struct guest *g, uint32_t id, void *data, int fd, uint32_t *error);

/* The same, printed in a line: GUEST: WHAT ERRNO error=STATUS. */
int op(const struct guest *g, const char *what, uint32_t id, void *data);
int op_with(const struct guest *g, const char *what, uint32_t id, void *data, int fd);

/* Prints a line about a call without a firmware status: GUEST: WHAT ERRNO; returns its errno. */
int said(const struct guest *g, const char *what, int ret);
/* Prints a line with anything else. */
void say(const struct guest *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints how many guests the firmware has. */
void say_count(const char *name);
/* How many it has; -1 if it does not answer. */
int guest_count(void);

const char *errno_name(int error);
/* FNV-1a: not a secret, just short. */
uint64_t digest(const void *mem, size_t len);
uint64_t ptr(const void *mem);
/* Reads a file of at most `room` bytes; its length, or 0. */
size_t read_file(const char *directory, const char *name, void *mem, size_t room);

#endif
