// SPDX-License-Identifier: GPL-2.0
/*
 * Prints what the kernel's own headers say about the SEV firmware interface, for kernel_headers.rs
 * to compare with the crate: an oracle that shares no source with it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Just enough of the kernel's vocabulary for include/linux/psp-sev.h to be read in user space. */
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;
#define __packed __attribute__((packed))
#define __user
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(h, l) 0UL
#define GENMASK_ULL(h, l) 0ULL
#define ERR_PTR(e) ((void *)(intptr_t)(e))
#define EINVAL 22
#define ENODEV 19
struct file;
#include <stdbool.h>
#include <sys/ioctl.h>
#include "linux/psp-sev.h"
#include "uapi/linux/sev-guest.h"

#define CMD(name, kernel, type) printf("cmd %s %#x %zu\n", #name, SEV_CMD_##kernel, sizeof(struct type))
#define BARE(name, kernel) printf("cmd %s %#x 0\n", #name, SEV_CMD_##kernel)
#define STATUS(name, kernel) printf("status %s %#x\n", #name, SEV_RET_##kernel)
#define FIELD(name, type, field) printf("field %s %zu\n", #name, offsetof(struct type, field))
#define NUMBER(name, value) printf("number %s %#lx\n", #name, (unsigned long)(value))

int main(void)
{
	CMD(INIT, INIT, sev_data_init);
	BARE(SHUTDOWN, SHUTDOWN);
	BARE(PLATFORM_RESET, FACTORY_RESET);
	CMD(PLATFORM_STATUS, PLATFORM_STATUS, sev_user_data_status);
	BARE(PEK_GEN, PEK_GEN);
	CMD(PEK_CSR, PEK_CSR, sev_data_pek_csr);
	CMD(PEK_CERT_IMPORT, PEK_CERT_IMPORT, sev_data_pek_cert_import);
	CMD(PDH_CERT_EXPORT, PDH_CERT_EXPORT, sev_data_pdh_cert_export);
	BARE(PDH_GEN, PDH_GEN);
	BARE(DF_FLUSH, DF_FLUSH);
	CMD(DOWNLOAD_FIRMWARE, DOWNLOAD_FIRMWARE, sev_data_download_firmware);
	CMD(GET_ID, GET_ID, sev_data_get_id);
	CMD(INIT_EX, INIT_EX, sev_data_init_ex);
	CMD(DECOMMISSION, DECOMMISSION, sev_data_decommission);
	CMD(ACTIVATE, ACTIVATE, sev_data_activate);
	CMD(DEACTIVATE, DEACTIVATE, sev_data_deactivate);
	CMD(GUEST_STATUS, GUEST_STATUS, sev_data_guest_status);
	CMD(LAUNCH_START, LAUNCH_START, sev_data_launch_start);
	CMD(LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_DATA, sev_data_launch_update_data);
	CMD(LAUNCH_UPDATE_VMSA, LAUNCH_UPDATE_VMSA, sev_data_launch_update_vmsa);
	CMD(LAUNCH_MEASURE, LAUNCH_MEASURE, sev_data_launch_measure);
	CMD(LAUNCH_SECRET, LAUNCH_UPDATE_SECRET, sev_data_launch_secret);
	CMD(LAUNCH_FINISH, LAUNCH_FINISH, sev_data_launch_finish);
	CMD(ATTESTATION, ATTESTATION_REPORT, sev_data_attestation_report);
	CMD(SEND_START, SEND_START, sev_data_send_start);
	CMD(SEND_UPDATE_DATA, SEND_UPDATE_DATA, sev_data_send_update_data);
	CMD(SEND_UPDATE_VMSA, SEND_UPDATE_VMSA, sev_data_send_update_vmsa);
	CMD(SEND_FINISH, SEND_FINISH, sev_data_send_finish);
	CMD(SEND_CANCEL, SEND_CANCEL, sev_data_send_cancel);
	CMD(RECEIVE_START, RECEIVE_START, sev_data_receive_start);
	CMD(RECEIVE_UPDATE_DATA, RECEIVE_UPDATE_DATA, sev_data_receive_update_data);
	CMD(RECEIVE_UPDATE_VMSA, RECEIVE_UPDATE_VMSA, sev_data_receive_update_vmsa);
	CMD(RECEIVE_FINISH, RECEIVE_FINISH, sev_data_receive_finish);
	CMD(DBG_DECRYPT, DBG_DECRYPT, sev_data_dbg);
	CMD(DBG_ENCRYPT, DBG_ENCRYPT, sev_data_dbg);
	BARE(SNP_INIT, SNP_INIT);
	BARE(SNP_SHUTDOWN, SNP_SHUTDOWN);
	CMD(SNP_PLATFORM_STATUS, SNP_PLATFORM_STATUS, sev_data_snp_addr);
	BARE(SNP_DF_FLUSH, SNP_DF_FLUSH);
	CMD(SNP_INIT_EX, SNP_INIT_EX, sev_data_snp_init_ex);
	CMD(SNP_SHUTDOWN_EX, SNP_SHUTDOWN_EX, sev_data_snp_shutdown_ex);
	CMD(SNP_DECOMMISSION, SNP_DECOMMISSION, sev_data_snp_addr);
	CMD(SNP_ACTIVATE, SNP_ACTIVATE, sev_data_snp_activate);
	CMD(SNP_GUEST_STATUS, SNP_GUEST_STATUS, sev_data_snp_guest_status);
	CMD(SNP_GCTX_CREATE, SNP_GCTX_CREATE, sev_data_snp_addr);
	CMD(SNP_GUEST_REQUEST, SNP_GUEST_REQUEST, sev_data_snp_guest_request);
	CMD(SNP_LAUNCH_START, SNP_LAUNCH_START, sev_data_snp_launch_start);
	CMD(SNP_LAUNCH_UPDATE, SNP_LAUNCH_UPDATE, sev_data_snp_launch_update);
	CMD(SNP_LAUNCH_FINISH, SNP_LAUNCH_FINISH, sev_data_snp_launch_finish);
	CMD(SNP_DBG_DECRYPT, SNP_DBG_DECRYPT, sev_data_snp_dbg);
	CMD(SNP_DBG_ENCRYPT, SNP_DBG_ENCRYPT, sev_data_snp_dbg);
	CMD(SNP_VERIFY_MITIGATION, SNP_VERIFY_MITIGATION, sev_data_snp_verify_mitigation);
	CMD(SNP_PAGE_RECLAIM, SNP_PAGE_RECLAIM, sev_data_snp_page_reclaim);
	CMD(SNP_PAGE_UNSMASH, SNP_PAGE_UNSMASH, sev_data_snp_page_unsmash);
	CMD(SNP_CONFIG, SNP_CONFIG, sev_user_data_snp_config);
	CMD(SNP_COMMIT, SNP_COMMIT, sev_data_snp_commit);
	CMD(SNP_VLEK_LOAD, SNP_VLEK_LOAD, sev_user_data_snp_vlek_load);
	CMD(SNP_FEATURE_INFO, SNP_FEATURE_INFO, sev_data_snp_feature_info);

	STATUS(SUCCESS, SUCCESS);
	STATUS(INVALID_PLATFORM_STATE, INVALID_PLATFORM_STATE);
	STATUS(INVALID_GUEST_STATE, INVALID_GUEST_STATE);
	STATUS(INVALID_CONFIG, INVALID_CONFIG);
	STATUS(INVALID_LEN, INVALID_LEN);
	STATUS(ALREADY_OWNED, ALREADY_OWNED);
	STATUS(INVALID_CERTIFICATE, INVALID_CERTIFICATE);
	STATUS(POLICY_FAILURE, POLICY_FAILURE);
	STATUS(INACTIVE, INACTIVE);
	STATUS(INVALID_ADDRESS, INVALID_ADDRESS);
	STATUS(BAD_SIGNATURE, BAD_SIGNATURE);
	STATUS(BAD_MEASUREMENT, BAD_MEASUREMENT);
	STATUS(ASID_OWNED, ASID_OWNED);
	STATUS(INVALID_ASID, INVALID_ASID);
	STATUS(WBINVD_REQUIRED, WBINVD_REQUIRED);
	STATUS(DFFLUSH_REQUIRED, DFFLUSH_REQUIRED);
	STATUS(INVALID_GUEST, INVALID_GUEST);
	STATUS(INVALID_COMMAND, INVALID_COMMAND);
	STATUS(ACTIVE, ACTIVE);
	STATUS(HWERROR_PLATFORM, HWSEV_RET_PLATFORM);
	STATUS(HWERROR_UNSAFE, HWSEV_RET_UNSAFE);
	STATUS(UNSUPPORTED, UNSUPPORTED);
	STATUS(INVALID_PARAM, INVALID_PARAM);
	STATUS(RESOURCE_LIMIT, RESOURCE_LIMIT);
	STATUS(SECURE_DATA_INVALID, SECURE_DATA_INVALID);
	STATUS(INVALID_PAGE_SIZE, INVALID_PAGE_SIZE);
	STATUS(INVALID_PAGE_STATE, INVALID_PAGE_STATE);
	STATUS(INVALID_MDATA_ENTRY, INVALID_MDATA_ENTRY);
	STATUS(INVALID_PAGE_OWNER, INVALID_PAGE_OWNER);
	STATUS(AEAD_OFLOW, AEAD_OFLOW);
	STATUS(RB_MODE_EXITED, EXIT_RING_BUFFER);
	STATUS(RMP_INIT_REQUIRED, RMP_INIT_REQUIRED);
	STATUS(BAD_SVN, BAD_SVN);
	STATUS(BAD_VERSION, BAD_VERSION);
	STATUS(SHUTDOWN_REQUIRED, SHUTDOWN_REQUIRED);
	STATUS(UPDATE_FAILED, UPDATE_FAILED);
	STATUS(RESTORE_REQUIRED, RESTORE_REQUIRED);
	STATUS(RMP_INITIALIZATION_FAILED, RMP_INITIALIZATION_FAILED);
	STATUS(INVALID_KEY, INVALID_KEY);
	STATUS(SHUTDOWN_INCOMPLETE, SHUTDOWN_INCOMPLETE);
	STATUS(INCORRECT_BUFFER_LENGTH, INCORRECT_BUFFER_LENGTH);
	STATUS(EXPAND_BUFFER_LENGTH_REQUEST, EXPAND_BUFFER_LENGTH_REQUEST);
	STATUS(SPDM_REQUEST, SPDM_REQUEST);
	STATUS(SPDM_ERROR, SPDM_ERROR);
	STATUS(ERR_IN_DEV_CONN, SEV_STATUS_ERR_IN_DEV_CONN);
	STATUS(INVALID_DEV_CTX, SEV_STATUS_INVALID_DEV_CTX);
	STATUS(INVALID_TDI_CTX, SEV_STATUS_INVALID_TDI_CTX);
	STATUS(INVALID_TDI, SEV_STATUS_INVALID_TDI);
	STATUS(RECLAIM_REQUIRED, SEV_STATUS_RECLAIM_REQUIRED);
	STATUS(IN_USE, IN_USE);
	STATUS(INVALID_DEV_STATE, SEV_STATUS_INVALID_DEV_STATE);
	STATUS(INVALID_TDI_STATE, SEV_STATUS_INVALID_TDI_STATE);
	STATUS(DEV_CERT_CHANGED, SEV_STATUS_DEV_CERT_CHANGED);
	STATUS(RESYNC_REQ, SEV_STATUS_RESYNC_REQ);
	STATUS(RESPONSE_TOO_LARGE, SEV_STATUS_RESPONSE_TOO_LARGE);

	FIELD(Init.flags, sev_data_init, flags);
	FIELD(Init.tmr_paddr, sev_data_init, tmr_address);
	FIELD(Init.tmr_len, sev_data_init, tmr_len);
	FIELD(InitEx.length, sev_data_init_ex, length);
	FIELD(InitEx.flags, sev_data_init_ex, flags);
	FIELD(InitEx.tmr_paddr, sev_data_init_ex, tmr_address);
	FIELD(InitEx.tmr_len, sev_data_init_ex, tmr_len);
	FIELD(InitEx.nv_paddr, sev_data_init_ex, nv_address);
	FIELD(InitEx.nv_len, sev_data_init_ex, nv_len);
	FIELD(PlatformStatus.api_major, sev_user_data_status, api_major);
	FIELD(PlatformStatus.api_minor, sev_user_data_status, api_minor);
	FIELD(PlatformStatus.state, sev_user_data_status, state);
	FIELD(PlatformStatus.flags, sev_user_data_status, flags);
	FIELD(PlatformStatus.build, sev_user_data_status, build);
	FIELD(PlatformStatus.guest_count, sev_user_data_status, guest_count);
	FIELD(PekCsr.paddr, sev_data_pek_csr, address);
	FIELD(PekCsr.len, sev_data_pek_csr, len);
	FIELD(GetId.paddr, sev_data_get_id, address);
	FIELD(GetId.len, sev_data_get_id, len);
	FIELD(PekCertImport.pek_paddr, sev_data_pek_cert_import, pek_cert_address);
	FIELD(PekCertImport.pek_len, sev_data_pek_cert_import, pek_cert_len);
	FIELD(PekCertImport.oca_paddr, sev_data_pek_cert_import, oca_cert_address);
	FIELD(PekCertImport.oca_len, sev_data_pek_cert_import, oca_cert_len);
	FIELD(PdhCertExport.pdh_paddr, sev_data_pdh_cert_export, pdh_cert_address);
	FIELD(PdhCertExport.pdh_len, sev_data_pdh_cert_export, pdh_cert_len);
	FIELD(PdhCertExport.chain_paddr, sev_data_pdh_cert_export, cert_chain_address);
	FIELD(PdhCertExport.chain_len, sev_data_pdh_cert_export, cert_chain_len);
	FIELD(DownloadFirmware.paddr, sev_data_download_firmware, address);
	FIELD(DownloadFirmware.len, sev_data_download_firmware, len);
	FIELD(IssueCmd.cmd, sev_issue_cmd, cmd);
	FIELD(IssueCmd.data, sev_issue_cmd, data);
	FIELD(IssueCmd.error, sev_issue_cmd, error);

	FIELD(GuestCall.req_data, snp_guest_request_ioctl, req_data);
	FIELD(GuestCall.resp_data, snp_guest_request_ioctl, resp_data);
	FIELD(GuestCall.exitinfo2, snp_guest_request_ioctl, exitinfo2);
	FIELD(ReportRequest.vmpl, snp_report_req, vmpl);
	FIELD(KeyRequest.root_key_select, snp_derived_key_req, root_key_select);
	FIELD(KeyRequest.guest_field_select, snp_derived_key_req, guest_field_select);
	FIELD(KeyRequest.vmpl, snp_derived_key_req, vmpl);
	FIELD(KeyRequest.guest_svn, snp_derived_key_req, guest_svn);
	FIELD(KeyRequest.tcb_version, snp_derived_key_req, tcb_version);
	FIELD(ExtReportReq.certs_address, snp_ext_report_req, certs_address);
	FIELD(ExtReportReq.certs_len, snp_ext_report_req, certs_len);

	NUMBER(SNP_GET_REPORT, SNP_GET_REPORT);
	NUMBER(SNP_GET_DERIVED_KEY, SNP_GET_DERIVED_KEY);
	NUMBER(SNP_GET_EXT_REPORT, SNP_GET_EXT_REPORT);
	NUMBER(GUEST_CALL_LEN, sizeof(struct snp_guest_request_ioctl));
	NUMBER(REPORT_REQUEST_LEN, sizeof(struct snp_report_req));
	NUMBER(REPORT_RESPONSE_LEN, sizeof(struct snp_report_resp));
	NUMBER(KEY_REQUEST_LEN, sizeof(struct snp_derived_key_req));
	NUMBER(KEY_RESPONSE_LEN, sizeof(struct snp_derived_key_resp));
	NUMBER(EXT_REPORT_REQUEST_LEN, sizeof(struct snp_ext_report_req));
	NUMBER(VMM_INVALID_LEN, SNP_GUEST_ERR(SNP_GUEST_VMM_ERR_INVALID_LEN, 0));
	NUMBER(VMM_BUSY, SNP_GUEST_ERR(SNP_GUEST_VMM_ERR_BUSY, 0));

	NUMBER(SEV_ISSUE_CMD, SEV_ISSUE_CMD);
	NUMBER(SEV_MAX, SEV_MAX);
	NUMBER(FACTORY_RESET, SEV_FACTORY_RESET);
	NUMBER(PLATFORM_STATUS, SEV_PLATFORM_STATUS);
	NUMBER(PEK_GEN, SEV_PEK_GEN);
	NUMBER(PEK_CSR, SEV_PEK_CSR);
	NUMBER(PDH_GEN, SEV_PDH_GEN);
	NUMBER(PDH_CERT_EXPORT, SEV_PDH_CERT_EXPORT);
	NUMBER(PEK_CERT_IMPORT, SEV_PEK_CERT_IMPORT);
	NUMBER(GET_ID, SEV_GET_ID);
	NUMBER(GET_ID2, SEV_GET_ID2);
	NUMBER(SNP_PLATFORM_STATUS, SNP_PLATFORM_STATUS);
	NUMBER(SNP_COMMIT, SNP_COMMIT);
	NUMBER(SNP_SET_CONFIG, SNP_SET_CONFIG);
	NUMBER(SNP_VLEK_LOAD, SNP_VLEK_LOAD);
	NUMBER(SNP_STATUS_LEN, sizeof(struct sev_user_data_snp_status));
	NUMBER(GET_ID_LEN, sizeof(struct sev_user_data_get_id));
	NUMBER(BLOB_MAX_LEN, SEV_FW_BLOB_MAX_SIZE);
	return 0;
}
