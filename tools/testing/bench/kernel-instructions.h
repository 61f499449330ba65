/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How many instructions the kernel has executed on this CPU: what the plugin sev-cpu counts in a VM
 * of `tools/lab run --count-instructions`. The caller is pinned to one CPU.
 */
#ifndef KERNEL_INSTRUCTIONS_H
#define KERNEL_INSTRUCTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* tools/testing/sev-cpu/src/instructions.rs */
#define INSTRUCTIONS_LEAF 0x5e500000u
#define INSTRUCTIONS_SIGNATURE 0x53455643u

/* False when nobody counts. */
static inline bool kernel_instructions(uint64_t *count)
{
	uint32_t eax = INSTRUCTIONS_LEAF, ebx, ecx = 0, edx;

	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx) : : "memory");
	*count = (uint64_t)edx << 32 | eax;
	return ebx == INSTRUCTIONS_SIGNATURE;
}

#endif
