// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE

#include "inspect.h"
#include "scenarios.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Under which descriptor the guests are launched: the first that no file here gets by itself. */
#define LAUNCH_FD 64

/* One page, mapped twice: two pages that cannot be physically contiguous. */
static uint8_t *page_twice(void)
{
	uint8_t *mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int file = memfd_create("page", MFD_CLOEXEC);
	bool mapped = mem != MAP_FAILED && file >= 0 && !ftruncate(file, PAGE);

	for (int i = 0; mapped && i < 2; i++)
		mapped = mmap(mem + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED;
	close(file);
	return mapped ? mem : NULL;
}

static int start_with(const struct guest *g, const char *what, struct kvm_sev_launch_start start, int fd)
{
	int err = op_with(g, what, KVM_SEV_LAUNCH_START, &start, fd);

	say(g, "  handle %#x", start.handle);
	return err;
}

/* Ways to LAUNCH_START that make no guest. */
static void bad_starts(const struct guest *g, uint32_t policy)
{
	static uint8_t zeroes[BLOB_MAX];
	const struct kvm_sev_launch_start good = { .policy = policy };
	struct kvm_sev_launch_start start;

	op(g, "launch_start with a bad struct", KVM_SEV_LAUNCH_START, (void *)BAD_ADDR);
	start_with(g, "launch_start without /dev/sev", good, other);
	start_with(g, "launch_start with /dev/kvm", good, kvm);
	start_with(g, "launch_start without a file", good, -1);
	start = good;
	start.policy |= 1 << 12;
	start_with(g, "launch_start with a reserved policy", start, sev);
	start = good;
	start.policy |= 0xffff0000;
	start_with(g, "launch_start for firmware of the future", start, sev);
	start = good;
	start.policy ^= POLICY_ES;
	start_with(g, "launch_start for the other kind of ASID", start, sev);
	start = good;
	start.handle = 777;
	start_with(g, "launch_start with the key of nobody", start, sev);
	start = good;
	start.dh_uaddr = ptr(zeroes);
	start_with(g, "launch_start with a certificate of no length", start, sev);
	start.dh_len = BLOB_MAX + 1;
	start_with(g, "launch_start with a long certificate", start, sev);
	start.dh_len = CERT_LEN - 1;
	start_with(g, "launch_start with a short certificate", start, sev);
	start.dh_len = CERT_LEN;
	start_with(g, "launch_start with a certificate alone", start, sev);
	start.session_uaddr = ptr(zeroes);
	start.session_len = SESSION_LEN;
	start_with(g, "launch_start with a session of zeroes", start, sev);
	start.session_len = BLOB_MAX + 1;
	start_with(g, "launch_start with a long session", start, sev);
	start.session_len = SESSION_LEN;
	start.session_uaddr = BAD_ADDR;
	start_with(g, "launch_start with a bad session address", start, sev);
	start.dh_uaddr = BAD_ADDR;
	start_with(g, "launch_start with a bad certificate address", start, sev);
	say_count(g->name);
}

static int start(const struct guest *g, uint32_t policy, const struct session *session)
{
	struct kvm_sev_launch_start start = { .policy = policy };

	if (session) {
		start.dh_uaddr = ptr(session->certificate);
		start.dh_len = sizeof(session->certificate);
		start.session_uaddr = ptr(session->blob);
		start.session_len = sizeof(session->blob);
		start.policy ^= POLICY_NOKS;
		start_with(g, "launch_start with another policy than the session's", start, sev);
		start.policy = policy;
	}
	dup2(sev, LAUNCH_FD);
	if (start_with(g, "launch_start", start, LAUNCH_FD))
		return -1;
	say_status(g);
	start_with(g, "launch_start again", start, sev);
	say_count(g->name);
	return 0;
}

static void update_with(const struct guest *g, const char *what, const void *mem, uint32_t len)
{
	struct kvm_sev_launch_update_data update = { .uaddr = ptr(mem), .len = len };

	op(g, what, KVM_SEV_LAUNCH_UPDATE_DATA, &update);
}

static void update_data(const struct guest *g)
{
	uint8_t *readonly = lone_page(PROT_READ), *lone = lone_page(PROT_READ | PROT_WRITE);

	op(g, "update_data with a bad struct", KVM_SEV_LAUNCH_UPDATE_DATA, (void *)BAD_ADDR);
	update_with(g, "update_data of nothing", g->memory, 0);
	update_with(g, "update_data of what is not mapped", (void *)BAD_ADDR, PAGE);
	update_with(g, "update_data of what cannot be written", readonly, PAGE);
	update_with(g, "update_data beyond what is mapped", lone, 2 * PAGE);
	update_with(g, "update_data of the end of memory", (void *)-PAGE, 2 * PAGE);
	update_with(g, "update_data of 4 GiB", g->memory, -1u);
	update_with(g, "update_data of 15 bytes", g->memory, 15);
	update_with(g, "update_data of an odd address", g->memory + 8, 16);
	update_with(g, "update_data of 16 bytes", g->memory, 16);
	/* KVM splits what crosses a page and is not contiguous; the PSP measures the parts. */
	update_with(g, "update_data across a page", g->memory + PAGE - 16, 32);
	update_with(g, "update_data of pages", g->memory + 2 * PAGE, 4 * PAGE);
	munmap(readonly, PAGE);
	munmap(lone, PAGE);
}

static void update_vmsa(struct guest *g)
{
	op(g, "update_vmsa without a vcpu", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	say(g, "vcpu %s", errno_name(guest_add_vcpu(g)));
	op(g, "update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
	op(g, "update_vmsa again", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
}

/* Prints the length that came back and whether anything was written to 64 bytes with room for `len`. */
static void measure_with(const struct guest *g, const char *what, void *mem, uint32_t len)
{
	static uint8_t untouched[64];
	struct kvm_sev_launch_measure measure = { .uaddr = ptr(mem), .len = len };
	bool real = mem && mem != (void *)BAD_ADDR;

	memset(untouched, FILL, sizeof(untouched));
	if (real)
		memset(mem, FILL, sizeof(untouched));
	op(g, what, KVM_SEV_LAUNCH_MEASURE, &measure);
	say(g, "  length %u, %s", measure.len,
	    !real || !memcmp(mem, untouched, sizeof(untouched)) ? "nothing written" : "written");
}

static void measure(const struct guest *g, uint8_t *measurement)
{
	static uint8_t mem[64];

	op(g, "measure with a bad struct", KVM_SEV_LAUNCH_MEASURE, (void *)BAD_ADDR);
	measure_with(g, "measure length query", NULL, 0);
	measure_with(g, "measure without an address", NULL, MEASURE_LEN);
	measure_with(g, "measure of one byte", mem, 1);
	measure_with(g, "measure of a byte too few", mem, MEASURE_LEN - 1);
	measure_with(g, "measure of too much", mem, BLOB_MAX + 1);
	measure_with(g, "measure", mem, MEASURE_LEN);
	memcpy(measurement, mem, MEASURE_LEN);
	measure_with(g, "measure again", mem, MEASURE_LEN);
	measure_with(g, "measure length query afterwards", NULL, 0);
}

static void secret_with(const struct guest *g, const char *what, struct kvm_sev_launch_secret arg)
{
	op(g, what, KVM_SEV_LAUNCH_SECRET, &arg);
}

/* A secret is brought in at page 5; garbage if there is no owner to encrypt it. */
static void secret(const struct guest *g, const struct secret *secret)
{
	uint8_t *twice = page_twice();
	const struct kvm_sev_launch_secret good = {
		.hdr_uaddr = ptr(secret->header), .hdr_len = HEADER_LEN,
		.guest_uaddr = ptr(g->memory + 5 * PAGE), .guest_len = secret->payload_len,
		.trans_uaddr = ptr(secret->payload), .trans_len = secret->payload_len,
	};
	struct kvm_sev_launch_secret bad;

	op(g, "secret with a bad struct", KVM_SEV_LAUNCH_SECRET, (void *)BAD_ADDR);
	bad = good;
	bad.guest_len = 0;
	secret_with(g, "secret for nowhere", bad);
	bad = good;
	bad.guest_len -= 1;
	secret_with(g, "secret for an odd length", bad);
	bad = good;
	bad.guest_uaddr += 1;
	secret_with(g, "secret for an odd address", bad);
	bad = good;
	bad.guest_uaddr = BAD_ADDR;
	secret_with(g, "secret for what is not mapped", bad);
	bad = good;
	bad.guest_uaddr = ptr(twice);
	bad.guest_len = 2 * PAGE;
	secret_with(g, "secret for pages that are not contiguous", bad);
	bad = good;
	bad.hdr_len = HEADER_LEN - 1;
	secret_with(g, "secret with a short header", bad);
	bad = good;
	bad.hdr_uaddr = 0;
	secret_with(g, "secret without a header", bad);
	bad = good;
	bad.hdr_uaddr = BAD_ADDR;
	secret_with(g, "secret with a bad header address", bad);
	bad = good;
	bad.trans_len = 0;
	secret_with(g, "secret of nothing", bad);
	bad = good;
	bad.trans_len = BLOB_MAX + 1;
	secret_with(g, "secret that is too long", bad);
	bad = good;
	bad.trans_uaddr = BAD_ADDR;
	secret_with(g, "secret at a bad address", bad);
	bad = good;
	bad.hdr_uaddr = ptr(secret->payload);
	secret_with(g, "secret with another header", bad);
	secret_with(g, "secret", good);
	munmap(twice, 2 * PAGE);
}

/* The states of a guest that is launched (SEV-API, "Guest State Machine"). */
enum stage { LAUNCHING, MEASURED, RUNNING };

/* What belongs to other states. */
static void out_of_turn(const struct guest *g, enum stage stage)
{
	static const char *const names[] = { "launching", "measured", "running" };
	static const uint8_t header[HEADER_LEN], data[16];
	struct kvm_sev_launch_secret secret = {
		.hdr_uaddr = ptr(header), .hdr_len = sizeof(header), .guest_uaddr = ptr(g->memory), .guest_len = 16,
		.trans_uaddr = ptr(data), .trans_len = sizeof(data),
	};
	struct kvm_sev_launch_update_data update = { .uaddr = ptr(g->memory), .len = PAGE };
	struct kvm_sev_launch_measure measure = { 0 };
	struct kvm_sev_send_start send = { 0 };

	say(g, "out of turn when %s:", names[stage]);
	if (stage != MEASURED) {
		op(g, "finish", KVM_SEV_LAUNCH_FINISH, NULL);
		op(g, "secret", KVM_SEV_LAUNCH_SECRET, &secret);
	}
	if (stage != LAUNCHING) {
		op(g, "update_data", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
		op(g, "update_vmsa", KVM_SEV_LAUNCH_UPDATE_VMSA, NULL);
		op(g, "measure", KVM_SEV_LAUNCH_MEASURE, &measure);
	}
	op(g, "send_start", KVM_SEV_SEND_START, &send);
	op(g, "send_finish", KVM_SEV_SEND_FINISH, NULL);
	op(g, "send_cancel", KVM_SEV_SEND_CANCEL, NULL);
	op(g, "receive_finish", KVM_SEV_RECEIVE_FINISH, NULL);
}

/* KVM looks for /dev/sev under the descriptor that LAUNCH_START got, each time; here that is `fd`. */
static void another_file(const struct guest *g, int fd)
{
	struct kvm_sev_guest_status status = { 0 };

	close(fd);
	op(g, "guest_status after /dev/sev was closed", KVM_SEV_GUEST_STATUS, &status);
	dup2(other, fd);
	op(g, "guest_status with another file in its place", KVM_SEV_GUEST_STATUS, &status);
	dup2(sev, fd);
	op(g, "guest_status with /dev/sev again", KVM_SEV_GUEST_STATUS, &status);
}

static bool create(struct guest *g, const char *name, int type)
{
	struct kvm_sev_init init = { 0 };

	if (guest_create(g, name, type)) {
		printf("%s: vm %s\n", name, errno_name(errno));
		return false;
	}
	op(g, "init", KVM_SEV_INIT2, &init);
	return true;
}

/* Answers that cannot be delivered: the firmware has done its part by then. */
static void lost_answers(const char *name, int type, uint32_t policy)
{
	struct kvm_sev_launch_start *start;
	struct kvm_sev_launch_measure measure = { .uaddr = BAD_ADDR, .len = MEASURE_LEN };
	struct guest g;

	if (!create(&g, name, type))
		return;
	start = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return;
	*start = (struct kvm_sev_launch_start){ .policy = policy };
	mprotect(start, PAGE, PROT_READ);
	op(&g, "launch_start whose answer is lost", KVM_SEV_LAUNCH_START, start);
	say_count(name);
	mprotect(start, PAGE, PROT_READ | PROT_WRITE);
	/* A guest that never ran leaves nothing in caches: its ASID is free at once. */
	op(&g, "launch_start with its ASID", KVM_SEV_LAUNCH_START, start);
	munmap(start, PAGE);
	guest_destroy(&g);

	if (!create(&g, name, type))
		return;
	start_with(&g, "launch_start", (struct kvm_sev_launch_start){ .policy = policy }, sev);
	op(&g, "measure whose answer is lost", KVM_SEV_LAUNCH_MEASURE, &measure);
	say_status(&g);
	op(&g, "guest_status whose answer is lost", KVM_SEV_GUEST_STATUS, (void *)BAD_ADDR);
	guest_destroy(&g);
	say_count(name);
}

void play_launch(const char *name, int type, uint32_t policy, const struct session *session)
{
	struct secret packet = { .payload_len = 64 };
	uint8_t measurement[MEASURE_LEN] = { 0 };
	struct guest g;

	if (!create(&g, name, type))
		return;
	bad_starts(&g, policy);
	if (!start(&g, policy, session)) {
		update_data(&g);
		update_vmsa(&g);
		play_report(&g, "while launching");
		out_of_turn(&g, LAUNCHING);
		measure(&g, measurement);
		out_of_turn(&g, MEASURED);
		if (session && !owner_secret(&packet, measurement))
			say(&g, "the owner has no secret");
		secret(&g, &packet);
		play_report(&g, "when measured");
		play_debug(&g);
		op(&g, "finish", KVM_SEV_LAUNCH_FINISH, NULL);
		out_of_turn(&g, RUNNING);
		say_status(&g);
		play_report(&g, "when running");
		look(&g, "decrypt the secret", g.memory + 5 * PAGE, PAGE);
		play_debug(&g);
		another_file(&g, LAUNCH_FD);
	}
	say_count(name);
	guest_destroy(&g);
	say_count(name);
	lost_answers(name, type, policy);
}
