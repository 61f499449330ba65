// SPDX-License-Identifier: GPL-2.0
/*
 * Shared pages whose owner dropped them where nobody may sleep: they are made private by a worker. The
 * list is kept in their struct pages; in the pages themselves the host would see it.
 */

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "shim.h"

static LIST_HEAD(dropped);
static DEFINE_SPINLOCK(dropped_lock);

static struct page *take_one(void)
{
	struct page *page;

	guard(spinlock_irqsave)(&dropped_lock);
	page = list_first_entry_or_null(&dropped, struct page, lru);
	if (page)
		list_del(&page->lru);
	return page;
}

static void unshare_dropped(struct work_struct *work)
{
	struct page *page;

	while ((page = take_one())) {
		int pages = page_private(page);

		set_page_private(page, 0);
		sev_shim_unshare(page_address(page), pages);
	}
}

static DECLARE_WORK(work, unshare_dropped);

void sev_shim_defer(void *mem, int pages)
{
	struct page *page = virt_to_page(mem);

	scoped_guard(spinlock_irqsave, &dropped_lock) {
		set_page_private(page, pages);
		list_add_tail(&page->lru, &dropped);
	}
	schedule_work(&work);
}

/* Returns when nothing is left to do. */
void sev_shim_flush_deferred(void)
{
	flush_work(&work);
}
