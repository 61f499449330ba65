// SPDX-License-Identifier: GPL-2.0
/* What the KUnit tests of flip_test.rs need of the kernel beyond what the module does. */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/pgtable.h>

#include "shim.h"

/* The page-table entry that maps @mem, and its level (PG_LEVEL_4K and so on); 0 if nothing does. */
u64 sev_shim_page_entry(const void *mem, unsigned int *level)
{
	pte_t *entry = lookup_address((unsigned long)mem, level);

	return entry ? pte_val(*entry) : 0;
}

/* A second mapping of pages. */
void *sev_shim_map_alias(void *mem, unsigned int pages)
{
	struct page **list = kcalloc(pages, sizeof(*list), GFP_KERNEL);
	void *alias;
	unsigned int i;

	if (!list)
		return NULL;
	for (i = 0; i < pages; i++)
		list[i] = virt_to_page(mem) + i;
	alias = vmap(list, pages, VM_MAP, PAGE_KERNEL);
	kfree(list);
	return alias;
}

void sev_shim_unmap_alias(void *alias)
{
	vunmap(alias);
}
