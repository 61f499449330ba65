/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of the C files, declared for Rust again in ffi.rs, and those of Rust that they call. */
#ifndef SEV_SHIM_H
#define SEV_SHIM_H

#include <linux/types.h>

/* shim.c */
bool sev_shim_encryption_leaf(u32 regs[4]);
int sev_shim_read_msr(u32 msr, u64 *value);
bool sev_shim_memory_is_encrypted(void);
u8 sev_shim_vmpl(void);
bool sev_shim_may_sleep(void);
void *sev_shim_alloc(size_t len);
void sev_shim_free(void *mem, size_t len);
int sev_shim_make_shared(void *mem, int pages);
int sev_shim_make_private(void *mem, int pages);
u64 sev_shim_pa(const void *mem);
u64 sev_shim_shared_address(u64 pa);
void *sev_shim_va(u64 pa);

/* deferred.c and shared.rs */
void sev_shim_defer(void *mem, int pages);
void sev_shim_flush_deferred(void);
void sev_shim_unshare(void *mem, int pages);

/* sysfs.c and sysfs.rs */
int sev_shim_add_attributes(const char *const *names, unsigned int count, unsigned int features);
void sev_shim_remove_attributes(void);
void sev_shim_notify(const char *name);
ssize_t sev_shim_show(unsigned int index, char *buf, size_t len);

/* flip_test.c */
u64 sev_shim_page_entry(const void *mem, unsigned int *level);
void *sev_shim_map_alias(void *mem, unsigned int pages);
void sev_shim_unmap_alias(void *alias);

#endif
