/* SPDX-License-Identifier: GPL-2.0 */
/* Counts of answers, shared by processes: which call, which errno, which status of the firmware. */
#ifndef SEV_KVM_ANSWERS_H
#define SEV_KVM_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

enum call {
	CALL_OPEN_SEV,
	CALL_CREATE_VM,
	CALL_CREATE_VCPU,
	CALL_REG_REGION,
	CALL_MIRROR,
	CALL_MOVE,
	CALL_INIT2,
	CALL_LAUNCH_START,
	CALL_LAUNCH_UPDATE_DATA,
	CALL_LAUNCH_UPDATE_VMSA,
	CALL_LAUNCH_MEASURE,
	CALL_LAUNCH_FINISH,
	CALL_GUEST_STATUS,
	CALL_DBG_DECRYPT,
	CALL_DBG_ENCRYPT,
	CALL_GET_ATTESTATION_REPORT,
	CALL_SEND_START,
	CALL_SEND_UPDATE_DATA,
	CALL_SEND_CANCEL,
	CALL_SEND_FINISH,
	CALL_RECEIVE_START,
	CALL_RECEIVE_UPDATE_DATA,
	CALL_RECEIVE_FINISH,
	CALL_PLATFORM_STATUS,
	CALL_GET_ID2,
	CALL_PDH_CERT_EXPORT,
	CALL_PEK_CSR,
	CALL_MAX
};

/* To be called before the processes are forked; whether there was memory. */
bool answers_open(void);

/* Counts an answer; `status` is UNTOUCHED for a call that has none. Whether it was a success. */
bool answer(enum call call, int error, uint32_t status);

/* Prints a line per kind of answer: CALL ERRNO STATUS COUNT. */
void answers_print(void);

#endif
