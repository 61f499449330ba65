/* SPDX-License-Identifier: GPL-2.0 */
/* Functions for ffi.rs; declared there again, by hand. */
#ifndef CCP_SEV_SHIM_H
#define CCP_SEV_SHIM_H

#include <linux/types.h>

unsigned int ccp_sev_cmd_timeout_s(void);
unsigned int ccp_sev_probe_timeout_s(void);
bool ccp_sev_init_on_probe(void);
bool ccp_sev_poll(void);
bool ccp_sev_cpu_has_sev(void);
u8 ccp_sev_cpu_family(void);
u8 ccp_sev_cpu_model(void);
bool ccp_sev_is_kdump(void);
bool ccp_sev_irqs_disabled(void);
void ccp_sev_wbinvd_all(void);
void *ccp_sev_alloc(size_t len);
void ccp_sev_free(void *mem, size_t len);
unsigned long ccp_sev_get_page(gfp_t gfp);
void ccp_sev_put_page(unsigned long addr);
u64 ccp_sev_pa(const void *mem);
u64 ccp_sev_psp_pa(const void *mem);
void ccp_sev_clflush(void *mem, size_t len);

#endif
