// SPDX-License-Identifier: GPL-2.0
#include "answers.h"

#include "guest.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#define ERRNOS 200
/* Statuses of the firmware are small; what is not lands in the last place, what was not written in the one before. */
#define STATUSES 66
#define NO_STATUS (STATUSES - 2)
#define OTHER_STATUS (STATUSES - 1)

static const char *const names[CALL_MAX] = {
	[CALL_OPEN_SEV] = "open",
	[CALL_CREATE_VM] = "create_vm",
	[CALL_CREATE_VCPU] = "create_vcpu",
	[CALL_REG_REGION] = "reg_region",
	[CALL_MIRROR] = "mirror",
	[CALL_MOVE] = "move",
	[CALL_INIT2] = "init2",
	[CALL_LAUNCH_START] = "launch_start",
	[CALL_LAUNCH_UPDATE_DATA] = "launch_update_data",
	[CALL_LAUNCH_UPDATE_VMSA] = "launch_update_vmsa",
	[CALL_LAUNCH_MEASURE] = "launch_measure",
	[CALL_LAUNCH_FINISH] = "launch_finish",
	[CALL_GUEST_STATUS] = "guest_status",
	[CALL_DBG_DECRYPT] = "dbg_decrypt",
	[CALL_DBG_ENCRYPT] = "dbg_encrypt",
	[CALL_GET_ATTESTATION_REPORT] = "get_attestation_report",
	[CALL_SEND_START] = "send_start",
	[CALL_SEND_UPDATE_DATA] = "send_update_data",
	[CALL_SEND_CANCEL] = "send_cancel",
	[CALL_SEND_FINISH] = "send_finish",
	[CALL_RECEIVE_START] = "receive_start",
	[CALL_RECEIVE_UPDATE_DATA] = "receive_update_data",
	[CALL_RECEIVE_FINISH] = "receive_finish",
	[CALL_PLATFORM_STATUS] = "platform_status",
	[CALL_GET_ID2] = "get_id2",
	[CALL_PDH_CERT_EXPORT] = "pdh_cert_export",
	[CALL_PEK_CSR] = "pek_csr",
};

static atomic_uint (*counts)[ERRNOS][STATUSES];

bool answers_open(void)
{
	void *mem = mmap(NULL, CALL_MAX * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return false;
	counts = mem;
	return true;
}

bool answer(enum call call, int error, uint32_t status)
{
	uint32_t column = status == UNTOUCHED ? NO_STATUS : status < NO_STATUS ? status : OTHER_STATUS;

	atomic_fetch_add(&counts[call][error < ERRNOS ? error : ERRNOS - 1][column], 1);
	return !error;
}

void answers_print(void)
{
	for (int call = 0; call < CALL_MAX; call++)
		for (int error = 0; error < ERRNOS; error++)
			for (int status = 0; status < STATUSES; status++) {
				unsigned int count = counts[call][error][status];

				if (!count)
					continue;
				printf("%s %s ", names[call], errno_name(error));
				if (status == NO_STATUS)
					printf("-");
				else
					printf(status == OTHER_STATUS ? "other" : "%#x", status);
				printf(" %u\n", count);
			}
}
