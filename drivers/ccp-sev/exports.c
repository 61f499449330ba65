// SPDX-License-Identifier: GPL-2.0
/*
 * The in-kernel API that kvm-amd links against. The functions are Rust (kvm.rs) with the C ABI of
 * <linux/psp-sev.h>; only the export macros are C.
 */

#include <linux/export.h>
#include <linux/fs.h>
#include <linux/psp-sev.h>

EXPORT_SYMBOL_GPL(sev_platform_init);
EXPORT_SYMBOL_GPL(sev_platform_shutdown);
EXPORT_SYMBOL_GPL(sev_platform_status);
EXPORT_SYMBOL_GPL(sev_do_cmd);
EXPORT_SYMBOL_GPL(sev_issue_cmd_external_user);
EXPORT_SYMBOL_GPL(sev_guest_activate);
EXPORT_SYMBOL_GPL(sev_guest_deactivate);
EXPORT_SYMBOL_GPL(sev_guest_decommission);
EXPORT_SYMBOL_GPL(sev_guest_df_flush);
EXPORT_SYMBOL_GPL(psp_copy_user_blob);
EXPORT_SYMBOL_GPL(snp_alloc_firmware_page);
EXPORT_SYMBOL_GPL(snp_free_firmware_page);
EXPORT_SYMBOL_GPL(snp_reclaim_pages);
EXPORT_SYMBOL_GPL(sev_is_snp_ciphertext_hiding_supported);
EXPORT_SYMBOL_GPL(sev_get_snp_policy_bits);
EXPORT_SYMBOL_FOR_MODULES(sev_firmware_supported_vm_types, "kvm-amd");
