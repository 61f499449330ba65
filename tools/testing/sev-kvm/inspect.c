// SPDX-License-Identifier: GPL-2.0
#include "inspect.h"

#include <string.h>
#include <stdio.h>
#include <sys/mman.h>

static const uint8_t nonce[16] = "the owner asks";

uint8_t *lone_page(int protection)
{
	uint8_t *mem = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	munmap(mem, PAGE);
	munmap(mem + 2 * PAGE, PAGE);
	mprotect(mem + PAGE, PAGE, protection);
	return mem + PAGE;
}

void say_status(const struct guest *g)
{
	struct kvm_sev_guest_status status = { .handle = UNTOUCHED, .policy = UNTOUCHED, .state = UNTOUCHED };

	op(g, "guest_status", KVM_SEV_GUEST_STATUS, &status);
	say(g, "  handle %#x policy %#x state %#x", status.handle, status.policy, status.state);
}

static void debug_with(const struct guest *g, const char *what, uint32_t id, const void *from, void *to, uint32_t len)
{
	struct kvm_sev_dbg debug = { .src_uaddr = ptr(from), .dst_uaddr = ptr(to), .len = len };

	op(g, what, id, &debug);
}

void look(const struct guest *g, const char *what, const uint8_t *from, uint32_t len)
{
	static uint8_t seen[4 * PAGE];

	memset(seen, FILL, sizeof(seen));
	debug_with(g, what, KVM_SEV_DBG_DECRYPT, from, seen + ptr(from) % 16, len);
	say(g, "  %016llx", (unsigned long long)digest(seen, sizeof(seen)));
}

void play_debug(const struct guest *g)
{
	static const char text[] __attribute__((aligned(16))) = "what a debugger writes into a guest's memory";
	uint8_t *readonly = lone_page(PROT_READ);
	static uint8_t mem[PAGE];

	op(g, "decrypt with a bad struct", KVM_SEV_DBG_DECRYPT, (void *)BAD_ADDR);
	for (int i = 0; i < 2; i++) {
		uint32_t id = i ? KVM_SEV_DBG_ENCRYPT : KVM_SEV_DBG_DECRYPT;

		debug_with(g, i ? "encrypt nothing" : "decrypt nothing", id, g->memory, mem, 0);
		debug_with(g, i ? "encrypt from nowhere" : "decrypt from nowhere", id, NULL, mem, 16);
		debug_with(g, i ? "encrypt to nowhere" : "decrypt to nowhere", id, g->memory, NULL, 16);
		debug_with(g, i ? "encrypt from a bad address" : "decrypt from a bad address", id, (void *)BAD_ADDR, mem, 16);
		debug_with(g, i ? "encrypt to a bad address" : "decrypt to a bad address", id, g->memory, (void *)BAD_ADDR, 16);
		debug_with(g, i ? "encrypt over the end" : "decrypt over the end", id, g->memory, (void *)-16ul, 32);
		debug_with(g, i ? "encrypt to what cannot be written" : "decrypt to what cannot be written", id, g->memory,
			   readonly, 16);
	}
	look(g, "decrypt what was launched", g->memory + 2 * PAGE, 4 * PAGE - 16);
	look(g, "decrypt one byte", g->memory + 2 * PAGE + 3, 1);
	look(g, "decrypt 17 bytes", g->memory + 2 * PAGE + 16, 17);
	look(g, "decrypt 40 bytes across a page", g->memory + 3 * PAGE - 5, 40);
	debug_with(g, "encrypt 32 bytes", KVM_SEV_DBG_ENCRYPT, text, g->memory + 2 * PAGE, 32);
	debug_with(g, "encrypt 5 bytes", KVM_SEV_DBG_ENCRYPT, text, g->memory + 2 * PAGE + 103, 5);
	debug_with(g, "encrypt 40 bytes across a page", KVM_SEV_DBG_ENCRYPT, text, g->memory + 4 * PAGE - 20, 40);
	look(g, "decrypt what was encrypted", g->memory + 2 * PAGE, 3 * PAGE);
	munmap(readonly, PAGE);
}

static void report_with(const struct guest *g, const char *what, void *mem, uint32_t len)
{
	struct kvm_sev_attestation_report report = { .uaddr = ptr(mem), .len = len };

	memcpy(report.mnonce, nonce, sizeof(nonce));
	op(g, what, KVM_SEV_GET_ATTESTATION_REPORT, &report);
	say(g, "  length %u", report.len);
}

void play_report(const struct guest *g, const char *when)
{
	static uint8_t mem[REPORT_LEN + 64];
	char what[64];

	memset(mem, FILL, sizeof(mem));
	op(g, "report with a bad struct", KVM_SEV_GET_ATTESTATION_REPORT, (void *)BAD_ADDR);
	snprintf(what, sizeof(what), "report length query %s", when);
	report_with(g, what, NULL, 0);
	report_with(g, "report without an address", NULL, REPORT_LEN);
	report_with(g, "report that is too short", mem, REPORT_LEN - 1);
	report_with(g, "report that is too long", mem, BLOB_MAX + 1);
	report_with(g, "report at a bad address", (void *)BAD_ADDR, REPORT_LEN);
	report_with(g, "report", mem, REPORT_LEN);
	/* Nonce, launch digest, policy, kind of the key. What follows is a signature, always another. */
	say(g, "  %016llx, beyond it %016llx", (unsigned long long)digest(mem, 0x40),
	    (unsigned long long)digest(mem + REPORT_LEN, 64));
}
