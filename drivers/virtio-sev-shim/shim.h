/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of the C files, declared for Rust again in ffi.rs, and those of Rust that they call. */
#ifndef SEV_SHIM_H
#define SEV_SHIM_H

#include <linux/types.h>

struct aes_gcm_key;
struct semaphore;
struct snp_msg_desc;

/* shim.c */
bool sev_shim_encryption_leaf(u32 regs[4]);
int sev_shim_read_msr(u32 msr, u64 *value);
bool sev_shim_memory_is_encrypted(void);
u8 sev_shim_vmpl(void);
bool sev_shim_may_sleep(void);
int sev_shim_vmpck_id(void);
bool sev_shim_lab_transport(void);
void sev_shim_taint_test(void);
void sev_shim_sema_init(struct semaphore *sem);
bool sev_shim_sleep_killable(unsigned int ms);
bool sev_shim_user_range(unsigned long addr, unsigned long len);
void *sev_shim_map_private(u64 pa, size_t len);
void sev_shim_unmap_private(void *mem);
void *sev_shim_alloc(size_t len);
void sev_shim_free(void *mem, size_t len);
int sev_shim_make_shared(void *mem, int pages);
int sev_shim_make_private(void *mem, int pages);
u64 sev_shim_pa(const void *mem);
u64 sev_shim_shared_address(u64 pa);
void *sev_shim_va(u64 pa);
void sev_shim_copy(void *to, const void *from, size_t len);
void sev_shim_zero(void *mem, size_t len);
u64 sev_shim_ram(void);
unsigned int sev_shim_cpus(void);

/* deferred.c and shared.rs */
void sev_shim_defer(void *mem, int pages);
void sev_shim_flush_deferred(void);
void sev_shim_unshare(void *mem, int pages);

/* sysfs.c and sysfs.rs */
int sev_shim_add_attributes(const char *const *names, unsigned int count, unsigned int features);
void sev_shim_remove_attributes(void);
void sev_shim_notify(const char *name);
ssize_t sev_shim_show(unsigned int index, char *buf, size_t len);

/* virtio.c */
const char *sev_shim_dma(void);
bool sev_shim_force(void);
const char *sev_shim_admit(void);
unsigned int sev_shim_pool_min(void);
unsigned int sev_shim_pool_max(void);
bool sev_shim_copy_in(void);
int sev_shim_take_over(void);
void sev_shim_give_back(void);
int sev_shim_rebind(const char *name);
ssize_t sev_shim_list_bound(char *buf);

/* limits.c */
void sev_shim_shares_changed(void);

/* pool_work.c and dma.rs */
void sev_shim_pool_kick(void);
void sev_shim_pool_rest(void);
bool sev_shim_pool_grow(void);
bool sev_shim_pool_shrink(void);

/* map_ops.c: the numbers are those of log_refusal() in ffi.rs */
#define SEV_SHIM_TOO_LARGE 0
#define SEV_SHIM_FRAGMENTED 1
#define SEV_SHIM_EXHAUSTED 2
#define SEV_SHIM_QUOTA 3
void sev_shim_log_no_growth(u64 size);
void sev_shim_log_refusal(const char *name, u32 refusal, size_t len, u64 free);

/* gcm.c */
struct aes_gcm_key *sev_shim_gcm_prepare(const u8 *key);
void sev_shim_gcm_destroy(struct aes_gcm_key *key);
void sev_shim_gcm_encrypt(const struct aes_gcm_key *key, const u8 *iv, const u8 *aad, size_t aad_len,
			  u8 *text, size_t len, u8 *tag);
int sev_shim_gcm_decrypt(const struct aes_gcm_key *key, const u8 *iv, const u8 *aad, size_t aad_len,
			 u8 *text, size_t len, const u8 *tag);

/* snp.c */
bool sev_shim_is_snp_guest(void);
struct snp_msg_desc *sev_shim_snp_open(int vmpck);
void sev_shim_snp_close(struct snp_msg_desc *desc);
int sev_shim_snp_vmpck(const struct snp_msg_desc *desc);
int sev_shim_snp_request(struct snp_msg_desc *desc, u8 type, u8 version, u64 exit_code, void *request,
			 size_t len, void *out, size_t out_len, void *certs, u32 *pages, u64 *exitinfo2);

/* tsm.c and tsm.rs */
#define SEV_SHIM_OUTBLOB_LEN 4000
#define SEV_SHIM_AUXBLOB_LEN 16384
void sev_shim_log_certificates(bool truncated);
int sev_shim_provide_reports(unsigned int privlevel_floor);
void sev_shim_stop_providing_reports(void);
int sev_shim_report(const u8 *inblob, unsigned int privlevel, u8 *out, size_t *out_len, u8 *aux,
		    size_t *aux_len);

/* kunit.c */
u64 sev_shim_page_entry(const void *mem, unsigned int *level);
void *sev_shim_map_alias(void *mem, unsigned int pages);
void sev_shim_unmap_alias(void *alias);
u64 sev_shim_cr3(void);
bool sev_shim_has_5_levels(void);
bool sev_shim_read_table(u64 pa, u64 *entry);
int sev_shim_ask_without_key(bool destroyed, bool *wiped);

#endif
