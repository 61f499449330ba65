// SPDX-License-Identifier: GPL-2.0
/*
 * What the module needs of the kernel and Rust cannot reach: inline functions, macros and what has no
 * binding. Each function is wrapped once, in ffi.rs.
 */

#include <linux/cc_platform.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/panic.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/semaphore.h>
#include <linux/set_memory.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/unroll.h>
#include <asm/coco.h>
#include <asm/cpufeature.h>
#include <asm/cpuid/api.h>
#include <asm/msr.h>
#include <asm/sev.h>

#include "shim.h"

#define ENCRYPTION_LEAF 0x8000001f

static int vmpck_id = -1;
module_param(vmpck_id, int, 0444);
MODULE_PARM_DESC(vmpck_id, " key for requests to the firmware, 0 to 3 (default -1: that of the VMPL)");

static bool lab_transport;
module_param(lab_transport, bool, 0444);
MODULE_PARM_DESC(lab_transport, " for tests: send requests to an emulated PSP, whose reports prove nothing (default false)");

/* Whether the processor has the leaf that tells about memory encryption; its contents if so. */
bool sev_shim_encryption_leaf(u32 regs[4])
{
	if (boot_cpu_data.x86_vendor != X86_VENDOR_AMD &&
	    boot_cpu_data.x86_vendor != X86_VENDOR_HYGON)
		return false;
	if (cpuid_eax(0x80000000) < ENCRYPTION_LEAF)
		return false;
	cpuid(ENCRYPTION_LEAF, &regs[0], &regs[1], &regs[2], &regs[3]);
	return true;
}

int sev_shim_read_msr(u32 msr, u64 *value)
{
	return rdmsrq_safe(msr, value);
}

/* What the kernel itself found when it booted. */
bool sev_shim_memory_is_encrypted(void)
{
	return cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT);
}

u8 sev_shim_vmpl(void)
{
	return snp_vmpl;
}

bool sev_shim_may_sleep(void)
{
	/* A read section of preemptible RCU may be preempted, but must not wait for others. */
	return !in_interrupt() && !irqs_disabled() && !rcu_preempt_depth() &&
	       (!IS_ENABLED(CONFIG_PREEMPT_COUNT) || preempt_count() == 0);
}

int sev_shim_vmpck_id(void)
{
	return vmpck_id;
}

bool sev_shim_lab_transport(void)
{
	return lab_transport;
}

/* Whoever reads a report of this kernel's problems sees what it was used for. */
void sev_shim_taint_test(void)
{
	add_taint(TAINT_TEST, LOCKDEP_STILL_OK);
}

void sev_shim_sema_init(struct semaphore *sem)
{
	sema_init(sem, 1);
}

/* False if the caller is to be killed. */
bool sev_shim_sleep_killable(unsigned int ms)
{
	schedule_timeout_killable(msecs_to_jiffies(ms));
	return !fatal_signal_pending(current);
}

/* Whether these may be addresses of user space. */
bool sev_shim_user_range(unsigned long addr, unsigned long len)
{
	return access_ok((void __user *)addr, len);
}

/* Maps private memory that the kernel does not use as RAM. */
void *sev_shim_map_private(u64 pa, size_t len)
{
	return (__force void *)ioremap_encrypted(pa, len);
}

void sev_shim_unmap_private(void *mem)
{
	iounmap((__force void __iomem *)mem);
}

void *sev_shim_alloc(size_t len)
{
	/* Whoever wants more than there is gets an error; nobody is killed for it. */
	return alloc_pages_exact(len, GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
}

void sev_shim_free(void *mem, size_t len)
{
	free_pages_exact(mem, len);
}

int sev_shim_make_shared(void *mem, int pages)
{
	return set_memory_decrypted((unsigned long)mem, pages);
}

int sev_shim_make_private(void *mem, int pages)
{
	return set_memory_encrypted((unsigned long)mem, pages);
}

u64 sev_shim_pa(const void *mem)
{
	return __pa(mem);
}

void *sev_shim_va(u64 pa)
{
	return __va(pa);
}

u64 sev_shim_shared_address(u64 pa)
{
	return cc_mkdec(pa);
}

/* Wherever it lies. */
struct word {
	u64 bits;
} __packed;

/* So many words are in registers at once, and so many times that is one step. */
#define HELD 8
#define TIMES 4
#define STEP (TIMES * HELD * sizeof(struct word))

/* Copies whole steps; returns how many bytes that were. */
static noinline size_t copy_steps(struct word *to, const struct word *from, size_t len)
{
	size_t done;

	for (done = 0; len - done >= STEP; done += STEP) {
		unrolled_count(TIMES)
		for (int time = 0; time < TIMES; time++, to += HELD, from += HELD) {
			u64 held[HELD];

			unrolled_count(HELD)
			for (int i = 0; i < HELD; i++)
				held[i] = READ_ONCE(from[i].bits);
			unrolled_count(HELD)
			for (int i = 0; i < HELD; i++)
				WRITE_ONCE(to[i].bits, held[i]);
		}
	}
	return done;
}

/*
 * Between private memory and memory that the host changes meanwhile, and such memory alone. For the compiler
 * that called these they are functions of another language: it can read nothing twice, nor take what it read
 * or wrote for what is there.
 *
 * Where "rep movsb" is not fast, as on Naples and Rome, memcpy() holds 4 words and takes a step for each 4.
 * Under emulation these steps need about a tenth less time, and four tenths less where both buffers' pages
 * have the same place in its TLB.
 */
noinline void sev_shim_copy(void *to, const void *from, size_t len)
{
	size_t done = 0;

	if (len >= STEP && !cpu_feature_enabled(X86_FEATURE_FSRM))
		done = copy_steps(to, from, len);
	if (done < len)
		memcpy(to + done, from + done, len - done);
	barrier_data(to);
}

noinline void sev_shim_zero(void *mem, size_t len)
{
	memset(mem, 0, len);
	barrier_data(mem);
}

/* Bytes. */
u64 sev_shim_ram(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

unsigned int sev_shim_cpus(void)
{
	return nr_cpu_ids;
}
