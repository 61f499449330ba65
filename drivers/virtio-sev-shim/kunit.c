// SPDX-License-Identifier: GPL-2.0
/* What the KUnit tests (flip_rig.rs, flip_test.rs, walk_test.rs, snp_test.rs) need beyond what the module does. */

#include <crypto/aes-gcm.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/pgtable.h>
#include <asm/sev.h>
#include <asm/special_insns.h>

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

u64 sev_shim_cr3(void)
{
	return __read_cr3();
}

bool sev_shim_has_5_levels(void)
{
	return pgtable_l5_enabled();
}

/* False where the kernel has no memory. */
bool sev_shim_read_table(u64 pa, u64 *entry)
{
	if (!pfn_valid(PHYS_PFN(pa)))
		return false;
	*entry = READ_ONCE(*(u64 *)__va(pa));
	return true;
}

/*
 * Asks over a channel with a key that is all zeros, which the kernel refuses, or with none, as it leaves a
 * channel whose key it has destroyed. Returns the error; @wiped says whether the cipher's key is gone.
 */
int sev_shim_ask_without_key(bool destroyed, bool *wiped)
{
	struct snp_msg_desc *desc = kzalloc_obj(*desc);
	u64 exitinfo2;
	u32 pages = 0;
	u8 vmpck[32] = {};
	u8 answer[64];
	int ret = -ENOMEM;

	if (!desc)
		return ret;
	desc->gcm_key = kzalloc_obj(*desc->gcm_key);
	if (desc->gcm_key) {
		memset(desc->gcm_key, 0xa5, sizeof(*desc->gcm_key));
		desc->vmpck = destroyed ? NULL : vmpck;
		ret = sev_shim_snp_request(desc, 5, 1, 0, vmpck, sizeof(vmpck), answer, 32, NULL, &pages,
					   &exitinfo2);
		*wiped = !memchr_inv(desc->gcm_key, 0, sizeof(*desc->gcm_key));
		kfree(desc->gcm_key);
	}
	kfree(desc);
	return ret;
}
