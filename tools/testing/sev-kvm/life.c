// SPDX-License-Identifier: GPL-2.0
#include "life.h"

#include "answers.h"
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <sys/ioctl.h>
#include <unistd.h>

static uint8_t pdh[CERT_LEN], platform[3 * CERT_LEN];

uint32_t chance_below(struct chance *chance, uint32_t limit)
{
	chance->state ^= chance->state << 13;
	chance->state ^= chance->state >> 7;
	chance->state ^= chance->state << 17;
	return (chance->state >> 32) % limit;
}

static int sev_call(int fd, uint32_t cmd, void *data, uint32_t *error)
{
	struct sev_issue_cmd issue = { .cmd = cmd, .data = ptr(data), .error = UNTOUCHED };
	int err = ioctl(fd, SEV_ISSUE_CMD, &issue) ? errno : 0;

	*error = issue.error;
	return err;
}

static int export(int fd, uint32_t *error)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = ptr(pdh), .pdh_cert_len = sizeof(pdh),
		.cert_chain_address = ptr(platform), .cert_chain_len = sizeof(platform),
	};

	return sev_call(fd, SEV_PDH_CERT_EXPORT, &export, error);
}

bool lives_prepare(void)
{
	uint32_t error;

	return export(sev, &error) == 0;
}

/* A guest with the /dev/sev it was made with. */
struct life {
	struct guest guest;
	struct chance *chance;
	int fd;
};

static bool command(const struct life *life, enum call call, uint32_t id, void *data)
{
	uint32_t error = UNTOUCHED;
	int err = issue(&life->guest, id, data, life->fd, &error);

	return answer(call, err, error);
}

static int open_sev(void)
{
	int fd = open("/dev/sev", O_RDWR | O_CLOEXEC);

	answer(CALL_OPEN_SEV, fd < 0 ? errno : 0, UNTOUCHED);
	return fd;
}

static bool born(struct life *life, struct chance *chance, int type, int fd)
{
	int ret = guest_create(&life->guest, "", type);

	life->chance = chance;
	life->fd = fd;
	return answer(CALL_CREATE_VM, ret ? errno : 0, UNTOUCHED);
}

static bool init(const struct life *life)
{
	struct kvm_sev_init init = { 0 };

	return command(life, CALL_INIT2, KVM_SEV_INIT2, &init);
}

static bool add_vcpu(struct life *life)
{
	return answer(CALL_CREATE_VCPU, guest_add_vcpu(&life->guest), UNTOUCHED);
}

static bool launch(struct life *life)
{
	bool es = life->guest.type == KVM_X86_SEV_ES_VM;
	struct kvm_sev_launch_start start = { .policy = es ? POLICY_ES : 0 };
	struct kvm_enc_region region = { .addr = ptr(life->guest.memory), .size = MEMORY_PAGES * PAGE };
	uint8_t measurement[MEASURE_LEN];
	struct kvm_sev_launch_measure measure = { .uaddr = ptr(measurement), .len = sizeof(measurement) };

	if (!init(life))
		return false;
	if (!answer(CALL_REG_REGION, ioctl(life->guest.vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region) ? errno : 0, UNTOUCHED))
		return false;
	if (!command(life, CALL_LAUNCH_START, KVM_SEV_LAUNCH_START, &start))
		return false;
	for (uint32_t i = 0, pages; i < MEMORY_PAGES; i += pages) {
		struct kvm_sev_launch_update_data update = { .uaddr = ptr(life->guest.memory + i * PAGE) };

		pages = 1 + chance_below(life->chance, MEMORY_PAGES - i);
		update.len = pages * PAGE;
		if (!command(life, CALL_LAUNCH_UPDATE_DATA, KVM_SEV_LAUNCH_UPDATE_DATA, &update))
			return false;
	}
	if (!add_vcpu(life))
		return false;
	if (es && !command(life, CALL_LAUNCH_UPDATE_VMSA, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL))
		return false;
	return command(life, CALL_LAUNCH_MEASURE, KVM_SEV_LAUNCH_MEASURE, &measure) &&
	       command(life, CALL_LAUNCH_FINISH, KVM_SEV_LAUNCH_FINISH, NULL);
}

/* What KVM lets mirrors do, too, are the first `kinds` of these. */
#define MIRRORS_KINDS 3
#define KINDS 4

static void look(const struct life *life, uint32_t kinds)
{
	uint8_t mem[PAGE] __attribute__((aligned(16))) = { 0 };
	uint8_t *memory = life->guest.memory + chance_below(life->chance, MEMORY_PAGES) * PAGE;
	struct kvm_sev_attestation_report report = { .uaddr = ptr(mem), .len = REPORT_LEN };
	struct kvm_sev_dbg decrypt = { .src_uaddr = ptr(memory), .dst_uaddr = ptr(mem), .len = PAGE };
	struct kvm_sev_dbg encrypt = { .src_uaddr = ptr(mem), .dst_uaddr = ptr(memory) + 3, .len = 100 };
	struct kvm_sev_guest_status status;

	switch (chance_below(life->chance, kinds)) {
	case 0:
		command(life, CALL_GUEST_STATUS, KVM_SEV_GUEST_STATUS, &status);
		break;
	case 1:
		command(life, CALL_DBG_DECRYPT, KVM_SEV_DBG_DECRYPT, &decrypt);
		break;
	case 2:
		command(life, CALL_DBG_ENCRYPT, KVM_SEV_DBG_ENCRYPT, &encrypt);
		break;
	case 3:
		command(life, CALL_GET_ATTESTATION_REPORT, KVM_SEV_GET_ATTESTATION_REPORT, &report);
		break;
	}
}

/* The guest's context goes to a second VM: shared if `cap` is that of a mirror, else for good. */
static void share(struct life *life, uint32_t cap)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { life->guest.vm } };
	bool mirror = cap == KVM_CAP_VM_COPY_ENC_CONTEXT_FROM;
	struct life second;

	if (!born(&second, life->chance, life->guest.type, life->fd))
		return;
	if ((mirror || add_vcpu(&second)) &&
	    answer(mirror ? CALL_MIRROR : CALL_MOVE, ioctl(second.guest.vm, KVM_ENABLE_CAP, &enable) ? errno : 0, UNTOUCHED) &&
	    mirror) {
		/* The owner goes first, now and then. */
		if (chance_below(life->chance, 2))
			guest_destroy(&life->guest);
		look(&second, MIRRORS_KINDS);
	}
	guest_destroy(&second.guest);
}

/* The guest is sent to the platform it is on, one page of it. */
static void send(struct life *life)
{
	uint8_t session[SESSION_LEN], header[HEADER_LEN], data[PAGE];
	struct kvm_sev_send_start start = {
		.pdh_cert_uaddr = ptr(pdh), .pdh_cert_len = sizeof(pdh),
		.plat_certs_uaddr = ptr(platform), .plat_certs_len = sizeof(platform),
		/* The policy does not ask for AMD's, and KVM for any. */
		.amd_certs_uaddr = ptr(platform), .amd_certs_len = sizeof(platform),
		.session_uaddr = ptr(session), .session_len = sizeof(session),
	};
	struct kvm_sev_receive_start receive = {
		.policy = life->guest.type == KVM_X86_SEV_ES_VM ? POLICY_ES : 0,
		.pdh_uaddr = ptr(pdh), .pdh_len = sizeof(pdh),
		.session_uaddr = ptr(session), .session_len = sizeof(session),
	};
	struct kvm_sev_send_update_data packet = {
		.hdr_uaddr = ptr(header), .hdr_len = sizeof(header),
		.guest_uaddr = ptr(life->guest.memory), .guest_len = PAGE,
		.trans_uaddr = ptr(data), .trans_len = sizeof(data),
	};
	struct life second;

	if (!command(life, CALL_SEND_START, KVM_SEV_SEND_START, &start) ||
	    !command(life, CALL_SEND_UPDATE_DATA, KVM_SEV_SEND_UPDATE_DATA, &packet))
		return;
	if (chance_below(life->chance, 3) == 0) {
		command(life, CALL_SEND_CANCEL, KVM_SEV_SEND_CANCEL, NULL);
		return;
	}
	if (!command(life, CALL_SEND_FINISH, KVM_SEV_SEND_FINISH, NULL) ||
	    !born(&second, life->chance, life->guest.type, life->fd))
		return;
	if (init(&second) && command(&second, CALL_RECEIVE_START, KVM_SEV_RECEIVE_START, &receive)) {
		struct kvm_sev_receive_update_data update = {
			.hdr_uaddr = ptr(header), .hdr_len = sizeof(header),
			.guest_uaddr = ptr(second.guest.memory), .guest_len = PAGE,
			.trans_uaddr = ptr(data), .trans_len = sizeof(data),
		};

		if (command(&second, CALL_RECEIVE_UPDATE_DATA, KVM_SEV_RECEIVE_UPDATE_DATA, &update) &&
		    command(&second, CALL_RECEIVE_FINISH, KVM_SEV_RECEIVE_FINISH, NULL))
			look(&second, KINDS);
	}
	guest_destroy(&second.guest);
}

void live(struct chance *chance)
{
	int types = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
	bool es = (types & 1 << KVM_X86_SEV_ES_VM) && chance_below(chance, 2);
	/* A file of its own, or that of all. */
	int own = chance_below(chance, 2) ? open_sev() : -1;
	struct life life;

	if (born(&life, chance, es ? KVM_X86_SEV_ES_VM : KVM_X86_SEV_VM, own >= 0 ? own : sev)) {
		if (launch(&life)) {
			for (uint32_t n = chance_below(chance, 4); n > 0; n--)
				look(&life, KINDS);
			switch (chance_below(chance, 5)) {
			case 0:
				share(&life, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM);
				break;
			case 1:
				share(&life, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM);
				break;
			case 2:
				send(&life);
				break;
			}
		}
		guest_destroy(&life.guest);
	}
	if (own >= 0)
		close(own);
}

void call(struct chance *chance)
{
	int fd = open_sev();

	/* Nothing there: no need to ask a thousand times a second. */
	if (fd < 0)
		usleep(10000);
	for (uint32_t n = 1 + chance_below(chance, 8); fd >= 0 && n > 0; n--) {
		uint8_t mem[2 * CERT_LEN];
		struct sev_user_data_get_id2 id2 = { .address = ptr(mem), .length = sizeof(mem) };
		struct sev_user_data_pek_csr csr = { .address = ptr(mem), .length = sizeof(mem) };
		struct sev_user_data_status status;
		uint32_t error;
		int err;

		switch (chance_below(chance, 4)) {
		case 0:
			err = sev_call(fd, SEV_PLATFORM_STATUS, &status, &error);
			answer(CALL_PLATFORM_STATUS, err, error);
			break;
		case 1:
			err = sev_call(fd, SEV_GET_ID2, &id2, &error);
			answer(CALL_GET_ID2, err, error);
			break;
		case 2:
			err = export(fd, &error);
			answer(CALL_PDH_CERT_EXPORT, err, error);
			break;
		case 3:
			err = sev_call(fd, SEV_PEK_CSR, &csr, &error);
			answer(CALL_PEK_CSR, err, error);
			break;
		}
	}
	if (fd >= 0)
		close(fd);
}
