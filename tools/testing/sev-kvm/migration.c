// SPDX-License-Identifier: GPL-2.0
#include "inspect.h"
#include "scenarios.h"

#include <errno.h>
#include <stdio.h>

/* What goes from one platform to the other. */
struct packet {
	uint8_t header[HEADER_LEN], data[PAGE];
};

static uint8_t session[SESSION_LEN];
static uint8_t zeroes[BLOB_MAX];

static int send_start_with(const struct guest *g, const char *what, struct kvm_sev_send_start start)
{
	int err = op(g, what, KVM_SEV_SEND_START, &start);

	say(g, "  policy %#x session %u", start.policy, start.session_len);
	return err;
}

static struct kvm_sev_send_start send_to(const struct chain *chain)
{
	return (struct kvm_sev_send_start){
		.pdh_cert_uaddr = ptr(chain->pdh), .pdh_cert_len = sizeof(chain->pdh),
		.plat_certs_uaddr = ptr(chain->platform), .plat_certs_len = sizeof(chain->platform),
		.amd_certs_uaddr = ptr(chain->amd), .amd_certs_len = chain->amd_len,
		.session_uaddr = ptr(session), .session_len = sizeof(session),
	};
}

static void bad_send_starts(const struct guest *g, struct chain *chain)
{
	const struct kvm_sev_send_start good = send_to(chain);
	struct kvm_sev_send_start start;

	op(g, "send_start with a bad struct", KVM_SEV_SEND_START, (void *)BAD_ADDR);
	start = good;
	start.session_len = 0;
	send_start_with(g, "send_start length query", start);
	start = good;
	start.session_len = SESSION_LEN - 1;
	send_start_with(g, "send_start with a short session", start);
	start = good;
	start.session_len = BLOB_MAX + 1;
	send_start_with(g, "send_start with a long session", start);
	start = good;
	start.session_uaddr = 0;
	send_start_with(g, "send_start without a session", start);
	start = good;
	start.pdh_cert_len = 0;
	send_start_with(g, "send_start without a PDH", start);
	start = good;
	start.pdh_cert_len = CERT_LEN - 1;
	send_start_with(g, "send_start with a short PDH", start);
	start = good;
	start.pdh_cert_uaddr = ptr(zeroes);
	send_start_with(g, "send_start with a PDH of zeroes", start);
	start = good;
	start.pdh_cert_uaddr = BAD_ADDR;
	send_start_with(g, "send_start with a bad PDH address", start);
	start = good;
	start.plat_certs_len = 0;
	send_start_with(g, "send_start without the platform's certificates", start);
	start = good;
	start.plat_certs_uaddr = BAD_ADDR;
	send_start_with(g, "send_start with a bad certificate address", start);
	start = good;
	start.amd_certs_len = BLOB_MAX + 1;
	send_start_with(g, "send_start with long certificates of AMD", start);
	start = good;
	start.amd_certs_uaddr = BAD_ADDR;
	send_start_with(g, "send_start with a bad address of AMD's", start);
	/* Only a guest whose policy says so wants to know who its target is. */
	start = good;
	start.plat_certs_uaddr = ptr(zeroes);
	if (send_start_with(g, "send_start with certificates of zeroes", start) == 0)
		op(g, "send_cancel", KVM_SEV_SEND_CANCEL, NULL);
	chain->amd[1000] ^= 1;
	if (send_start_with(g, "send_start with a changed certificate of AMD's", good) == 0)
		op(g, "send_cancel", KVM_SEV_SEND_CANCEL, NULL);
	chain->amd[1000] ^= 1;
}

static int send_with(const struct guest *g, const char *what, struct kvm_sev_send_update_data update)
{
	int err = op(g, what, KVM_SEV_SEND_UPDATE_DATA, &update);

	say(g, "  header %u data %u", update.hdr_len, update.trans_len);
	return err;
}

static void send(const struct guest *g, struct packet *packets, int pages)
{
	static struct packet scratch;
	const struct kvm_sev_send_update_data good = {
		.hdr_uaddr = ptr(scratch.header), .hdr_len = HEADER_LEN,
		.guest_uaddr = ptr(g->memory), .guest_len = PAGE,
		.trans_uaddr = ptr(scratch.data), .trans_len = PAGE,
	};
	struct kvm_sev_send_update_data update;

	op(g, "send_update with a bad struct", KVM_SEV_SEND_UPDATE_DATA, (void *)BAD_ADDR);
	update = good;
	update.hdr_len = 0;
	send_with(g, "send_update length query", update);
	update = good;
	update.trans_len = 0;
	send_with(g, "send_update length query without data", update);
	update = good;
	update.hdr_len = HEADER_LEN - 1;
	send_with(g, "send_update with a short header", update);
	update = good;
	update.trans_len = PAGE - 1;
	send_with(g, "send_update with little room", update);
	update = good;
	update.hdr_uaddr = 0;
	send_with(g, "send_update without a header", update);
	update = good;
	update.guest_len = 0;
	send_with(g, "send_update of nothing", update);
	update = good;
	update.guest_len = PAGE + 1;
	send_with(g, "send_update of more than a page", update);
	update = good;
	update.guest_uaddr += 16;
	send_with(g, "send_update across a page", update);
	update = good;
	update.guest_len = 15;
	update.trans_len = 15;
	send_with(g, "send_update of 15 bytes", update);
	update = good;
	update.guest_uaddr = BAD_ADDR;
	send_with(g, "send_update of what is not mapped", update);
	update = good;
	update.hdr_uaddr = BAD_ADDR;
	send_with(g, "send_update with a bad header address", update);
	update = good;
	update.trans_uaddr = BAD_ADDR;
	send_with(g, "send_update to a bad address", update);
	for (int i = 0; i < pages; i++) {
		update = good;
		update.guest_uaddr = ptr(g->memory + i * PAGE);
		update.hdr_uaddr = ptr(packets[i].header);
		update.trans_uaddr = ptr(packets[i].data);
		send_with(g, "send_update", update);
	}
}

static int receive_start_with(const struct guest *g, const char *what, struct kvm_sev_receive_start start)
{
	int err = op(g, what, KVM_SEV_RECEIVE_START, &start);

	say(g, "  handle %#x", start.handle);
	return err;
}

static struct kvm_sev_receive_start receive_from(const struct chain *chain, uint32_t policy)
{
	return (struct kvm_sev_receive_start){
		.policy = policy, .pdh_uaddr = ptr(chain->pdh), .pdh_len = sizeof(chain->pdh),
		.session_uaddr = ptr(session), .session_len = sizeof(session),
	};
}

static void bad_receive_starts(const struct guest *g, const struct chain *chain, uint32_t policy)
{
	const struct kvm_sev_receive_start good = receive_from(chain, policy);
	struct kvm_sev_receive_start start;

	op(g, "receive_start with a bad struct", KVM_SEV_RECEIVE_START, (void *)BAD_ADDR);
	start = good;
	start.pdh_len = 0;
	receive_start_with(g, "receive_start without a PDH", start);
	start = good;
	start.pdh_uaddr = ptr(zeroes);
	receive_start_with(g, "receive_start with a PDH of zeroes", start);
	start = good;
	start.pdh_uaddr = BAD_ADDR;
	receive_start_with(g, "receive_start with a bad PDH address", start);
	start = good;
	start.session_len = SESSION_LEN - 1;
	receive_start_with(g, "receive_start with a short session", start);
	start = good;
	start.session_uaddr = ptr(zeroes);
	receive_start_with(g, "receive_start with a session of zeroes", start);
	start = good;
	start.session_uaddr = BAD_ADDR;
	receive_start_with(g, "receive_start with a bad session address", start);
	start = good;
	start.policy ^= POLICY_NOKS;
	receive_start_with(g, "receive_start with another policy", start);
	say_count(g->name);
}

static int receive_with(const struct guest *g, const char *what, struct kvm_sev_receive_update_data update)
{
	return op(g, what, KVM_SEV_RECEIVE_UPDATE_DATA, &update);
}

static void receive(const struct guest *g, const struct packet *packets, int pages)
{
	const struct kvm_sev_receive_update_data good = {
		.hdr_uaddr = ptr(packets[0].header), .hdr_len = HEADER_LEN,
		.guest_uaddr = ptr(g->memory), .guest_len = PAGE,
		.trans_uaddr = ptr(packets[0].data), .trans_len = PAGE,
	};
	struct kvm_sev_receive_update_data update;

	op(g, "receive_update with a bad struct", KVM_SEV_RECEIVE_UPDATE_DATA, (void *)BAD_ADDR);
	update = good;
	update.hdr_len = 0;
	receive_with(g, "receive_update without a header", update);
	update = good;
	update.hdr_len = HEADER_LEN - 1;
	receive_with(g, "receive_update with a short header", update);
	update = good;
	update.hdr_uaddr = ptr(packets[1].header);
	receive_with(g, "receive_update with another's header", update);
	update = good;
	update.hdr_uaddr = BAD_ADDR;
	receive_with(g, "receive_update with a bad header address", update);
	update = good;
	update.trans_len = BLOB_MAX + 1;
	receive_with(g, "receive_update of too much", update);
	update = good;
	update.trans_uaddr = BAD_ADDR;
	receive_with(g, "receive_update from a bad address", update);
	update = good;
	update.guest_uaddr += 16;
	receive_with(g, "receive_update across a page", update);
	update = good;
	update.guest_uaddr = BAD_ADDR;
	receive_with(g, "receive_update to what is not mapped", update);
	for (int i = 0; i < pages; i++) {
		update = good;
		update.guest_uaddr = ptr(g->memory + i * PAGE);
		update.hdr_uaddr = ptr(packets[i].header);
		update.trans_uaddr = ptr(packets[i].data);
		receive_with(g, "receive_update", update);
	}
}

/* A guest that could be sent; whether it came so far. */
static bool launch(struct guest *g, const char *name, int type, uint32_t policy)
{
	struct kvm_sev_launch_start start = { .policy = policy };
	struct kvm_sev_launch_update_data update;
	struct kvm_sev_launch_measure measure;
	struct kvm_sev_init init = { 0 };
	uint8_t measurement[MEASURE_LEN];

	if (guest_create(g, name, type)) {
		printf("%s: vm %s\n", name, errno_name(errno));
		return false;
	}
	update = (struct kvm_sev_launch_update_data){ .uaddr = ptr(g->memory), .len = 2 * PAGE };
	measure = (struct kvm_sev_launch_measure){ .uaddr = ptr(measurement), .len = sizeof(measurement) };
	op(g, "init", KVM_SEV_INIT2, &init);
	op(g, "launch_start", KVM_SEV_LAUNCH_START, &start);
	op(g, "update_data", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
	op(g, "measure", KVM_SEV_LAUNCH_MEASURE, &measure);
	op(g, "finish", KVM_SEV_LAUNCH_FINISH, NULL);
	return true;
}

void play_migration(const char *name, int type, uint32_t policy, struct chain *chain)
{
	struct packet packets[2] = { 0 };
	struct kvm_sev_init init = { 0 };
	struct guest from, to;

	if (!launch(&from, name, type, policy))
		return;
	look(&from, "decrypt", from.memory, 2 * PAGE);
	bad_send_starts(&from, chain);
	send_start_with(&from, "send_start", send_to(chain));
	send_start_with(&from, "send_start again", send_to(chain));
	say_status(&from);
	send(&from, packets, 2);
	op(&from, "send_cancel", KVM_SEV_SEND_CANCEL, NULL);
	op(&from, "send_cancel again", KVM_SEV_SEND_CANCEL, NULL);
	say_status(&from);
	send_start_with(&from, "send_start after cancelling", send_to(chain));
	send(&from, packets, 2);
	op(&from, "send_finish", KVM_SEV_SEND_FINISH, NULL);
	op(&from, "send_finish again", KVM_SEV_SEND_FINISH, NULL);
	op(&from, "send_cancel when sent", KVM_SEV_SEND_CANCEL, NULL);
	send_start_with(&from, "send_start when sent", send_to(chain));
	say_status(&from);
	receive_start_with(&from, "receive_start into the guest that was sent", receive_from(chain, policy));

	if (guest_create(&to, name, type)) {
		guest_destroy(&from);
		return;
	}
	op(&to, "init", KVM_SEV_INIT2, &init);
	bad_receive_starts(&to, chain, policy);
	if (!receive_start_with(&to, "receive_start", receive_from(chain, policy))) {
		struct kvm_sev_launch_update_data update = { .uaddr = ptr(to.memory), .len = PAGE };

		receive_start_with(&to, "receive_start again", receive_from(chain, policy));
		say_status(&to);
		op(&to, "update_data while receiving", KVM_SEV_LAUNCH_UPDATE_DATA, &update);
		receive(&to, packets, 2);
		send_start_with(&to, "send_start while receiving", send_to(chain));
		op(&to, "receive_finish", KVM_SEV_RECEIVE_FINISH, NULL);
		op(&to, "receive_finish again", KVM_SEV_RECEIVE_FINISH, NULL);
		say_status(&to);
		look(&to, "decrypt", to.memory, 2 * PAGE);
		receive(&to, packets, 1);
		receive_start_with(&to, "receive_start into a guest that runs", receive_from(chain, policy));
	}
	say_count(name);
	guest_destroy(&from);
	say_count(name);
	guest_destroy(&to);
	say_count(name);
}
