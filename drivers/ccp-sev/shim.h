/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of the C files, declared for Rust again in ffi.rs, and those of Rust that they call. */
#ifndef CCP_SEV_SHIM_H
#define CCP_SEV_SHIM_H

#include <linux/types.h>

struct device;
struct semaphore;

/* shim.c */
unsigned int ccp_sev_cmd_timeout_s(void);
unsigned int ccp_sev_probe_timeout_s(void);
bool ccp_sev_init_on_probe(void);
bool ccp_sev_poll(void);
const char *ccp_sev_init_ex_path(void);
bool ccp_sev_cpu_has_sev(void);
u8 ccp_sev_cpu_family(void);
u8 ccp_sev_cpu_model(void);
bool ccp_sev_is_kdump(void);
bool ccp_sev_fatal_signal_pending(void);
void ccp_sev_wbinvd_all(void);
void *ccp_sev_alloc(size_t len);
void ccp_sev_free(void *mem, size_t len);
unsigned long ccp_sev_get_page(gfp_t gfp);
void ccp_sev_put_page(unsigned long addr);
u64 ccp_sev_pa(const void *mem);
u64 ccp_sev_psp_pa(const void *mem);
void *ccp_sev_psp_pa_to_virt(u64 pa);
void ccp_sev_clflush(void *mem, size_t len);
void ccp_sev_sema_init(struct semaphore *sem);
u64 ccp_sev_now_us(void);

/* files.c */
s64 ccp_sev_read_file(const char *path, void *buf, size_t len);
int ccp_sev_replace_file(const char *path, const void *buf, size_t len, bool keep);

/* power.c and power.rs */
int ccp_sev_watch_power(void);
void ccp_sev_unwatch_power(void);
void ccp_sev_on_reboot(void);
void ccp_sev_on_panic(void);
int ccp_sev_before_sleep(void);
void ccp_sev_after_sleep(void);

/* sysfs.c and sysfs.rs */
int ccp_sev_add_attributes(struct device *dev, bool security, bool bootloader);
int ccp_sev_security_bit(struct device *dev, unsigned int bit);
int ccp_sev_bootloader_version(struct device *dev, u8 *version);
int ccp_sev_reset(struct device *dev);
int ccp_sev_update_firmware(struct device *dev);

/* trace.c */
bool ccp_sev_traces_commands(void);
void ccp_sev_trace_command(const struct device *dev, const char *name, u16 id, int status, int errno,
			   u64 us);

#endif
