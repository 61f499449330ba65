// SPDX-License-Identifier: GPL-2.0
/*
 * What the driver needs of the kernel and Rust cannot reach: inline functions, macros and module
 * parameters. Each function is wrapped once, in ffi.rs.
 */

#include <linux/cc_platform.h>
#include <linux/crash_dump.h>
#include <linux/gfp.h>
#include <linux/math64.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/semaphore.h>
#include <linux/time64.h>
#include <asm/cacheflush.h>
#include <asm/cpufeature.h>
#include <asm/smp.h>

#include "shim.h"

static unsigned int psp_cmd_timeout = 100;
static unsigned int psp_probe_timeout = 5;
static bool psp_init_on_probe = true;
static bool psp_poll;
static char *init_ex_path;

static int set_seconds(const char *val, const struct kernel_param *kp)
{
	/* A day: zero would kill the PSP at the first command, and milliseconds must fit 32 bits. */
	return param_set_uint_minmax(val, kp, 1, 24 * 60 * 60);
}

static const struct kernel_param_ops seconds_ops = {
	.set = set_seconds,
	.get = param_get_uint,
};

module_param_cb(psp_cmd_timeout, &seconds_ops, &psp_cmd_timeout, 0644);
MODULE_PARM_DESC(psp_cmd_timeout, " seconds until a command counts as not answered (default 100)");

module_param_cb(psp_probe_timeout, &seconds_ops, &psp_probe_timeout, 0644);
MODULE_PARM_DESC(psp_probe_timeout, " the same, until the first command was answered (default 5)");

module_param(psp_init_on_probe, bool, 0444);
MODULE_PARM_DESC(psp_init_on_probe, " if false, KVM's load leaves the platform uninitialised until first use (default true)");

module_param(psp_poll, bool, 0444);
MODULE_PARM_DESC(psp_poll, " poll for command completion instead of using the interrupt (default false)");

module_param(init_ex_path, charp, 0444);
MODULE_PARM_DESC(init_ex_path, " file for the platform's persistent data; if set, INIT_EX is used instead of INIT");

unsigned int ccp_sev_cmd_timeout_s(void)
{
	return READ_ONCE(psp_cmd_timeout);
}

unsigned int ccp_sev_probe_timeout_s(void)
{
	return READ_ONCE(psp_probe_timeout);
}

bool ccp_sev_init_on_probe(void)
{
	return psp_init_on_probe;
}

bool ccp_sev_poll(void)
{
	return psp_poll;
}

/* NULL if there is none. */
const char *ccp_sev_init_ex_path(void)
{
	return init_ex_path && *init_ex_path ? init_ex_path : NULL;
}

bool ccp_sev_cpu_has_sev(void)
{
	return boot_cpu_has(X86_FEATURE_SEV);
}

u8 ccp_sev_cpu_family(void)
{
	return boot_cpu_data.x86;
}

u8 ccp_sev_cpu_model(void)
{
	return boot_cpu_data.x86_model;
}

bool ccp_sev_is_kdump(void)
{
	return is_kdump_kernel();
}

bool ccp_sev_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void ccp_sev_wbinvd_all(void)
{
	wbinvd_on_all_cpus();
}

void *ccp_sev_alloc(size_t len)
{
	return alloc_pages_exact(len, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
}

void ccp_sev_free(void *mem, size_t len)
{
	free_pages_exact(mem, len);
}

unsigned long ccp_sev_get_page(gfp_t gfp)
{
	return __get_free_page(gfp);
}

void ccp_sev_put_page(unsigned long addr)
{
	free_page(addr);
}

u64 ccp_sev_pa(const void *mem)
{
	return __pa(mem);
}

u64 ccp_sev_psp_pa(const void *mem)
{
	return __sme_pa(mem);
}

void *ccp_sev_psp_pa_to_virt(u64 pa)
{
	return __va(__sme_clr(pa));
}

void ccp_sev_clflush(void *mem, size_t len)
{
	clflush_cache_range(mem, len);
}

void ccp_sev_sema_init(struct semaphore *sem)
{
	sema_init(sem, 1);
}

u64 ccp_sev_now_us(void)
{
	return div_u64(local_clock(), NSEC_PER_USEC);
}
