// SPDX-License-Identifier: GPL-2.0
/*
 * The map operations of adopted virtio devices, which dma/flow.rs and dma/ring.rs carry out. Rings
 * pass the parent device as their token. There is no highmem on x86-64: every page has its address.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/smp.h>
#include <linux/virtio_config.h>

#include "shim.h"
#include "virtio.h"

static dma_addr_t map_page(union virtio_map map, struct page *page, unsigned long offset,
			   size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	/* What is no RAM has no bounce buffer; and some cannot live with one. */
	if (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT))
		return DMA_MAPPING_ERROR;
	/* The host sees it already, whoever shared it. */
	if (attrs & DMA_ATTR_CC_SHARED)
		return page_to_phys(page) + offset;
	return sev_shim_map(map.dma_dev, page_address(page) + offset, size, dir,
			    attrs & DMA_ATTR_SKIP_CPU_SYNC, raw_smp_processor_id());
}

static void unmap_page(union virtio_map map, dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_CC_SHARED)
		return;
	sev_shim_unmap(map.dma_dev, addr, dir, attrs & DMA_ATTR_SKIP_CPU_SYNC,
		       raw_smp_processor_id());
}

static void sync_single_for_cpu(union virtio_map map, dma_addr_t addr, size_t size,
				enum dma_data_direction dir)
{
	sev_shim_sync(map.dma_dev, addr, size, dir, true, raw_smp_processor_id());
}

static void sync_single_for_device(union virtio_map map, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir)
{
	sev_shim_sync(map.dma_dev, addr, size, dir, false, raw_smp_processor_id());
}

static void *alloc_coherent(union virtio_map map, size_t size, dma_addr_t *addr, gfp_t gfp)
{
	return sev_shim_alloc_coherent(map.dma_dev, size, addr, gfpflags_allow_blocking(gfp),
				       raw_smp_processor_id());
}

static void free_coherent(union virtio_map map, size_t size, void *vaddr, dma_addr_t addr,
			  unsigned long attrs)
{
	sev_shim_free_coherent(map.dma_dev, addr);
}

static bool need_sync(union virtio_map map, dma_addr_t addr)
{
	return sev_shim_is_bounced(addr);
}

static int mapping_error(union virtio_map map, dma_addr_t addr)
{
	return addr == DMA_MAPPING_ERROR ? -ENOMEM : 0;
}

static size_t max_mapping_size(union virtio_map map)
{
	return sev_shim_max_mapping();
}

const struct virtio_map_ops sev_shim_map_ops = {
	.map_page = map_page,
	.unmap_page = unmap_page,
	.sync_single_for_cpu = sync_single_for_cpu,
	.sync_single_for_device = sync_single_for_device,
	.alloc = alloc_coherent,
	.free = free_coherent,
	.need_sync = need_sync,
	.mapping_error = mapping_error,
	.max_mapping_size = max_mapping_size,
};

/* One line a minute for each cause; counted they are all. The flag: how many were left out is not said. */
#define ONE_A_MINUTE(name) \
	struct ratelimit_state name = \
		RATELIMIT_STATE_INIT_FLAGS(name, 60 * HZ, 1, RATELIMIT_MSG_ON_RELEASE)

void sev_shim_log_no_growth(u64 size)
{
	static ONE_A_MINUTE(no_growth);

	if (__ratelimit(&no_growth))
		pr_warn("the kernel has no memory for the pool to grow, which has %llu KiB: devices wait\n",
			size >> 10);
}

void sev_shim_log_refusal(const char *name, u32 refusal, size_t len, u64 free)
{
	static ONE_A_MINUTE(too_large);
	static ONE_A_MINUTE(fragmented);
	static ONE_A_MINUTE(exhausted);
	static ONE_A_MINUTE(quota);

	if (refusal == SEV_SHIM_TOO_LARGE && __ratelimit(&too_large))
		pr_warn("%s: a buffer of %zu bytes is larger than any the pool has\n", name, len);
	if (refusal == SEV_SHIM_FRAGMENTED && __ratelimit(&fragmented))
		pr_warn("%s: the pool is fragmented: %llu KiB are free, but no %zu bytes in one piece; the driver tries again\n",
			name, free >> 10, len);
	if (refusal == SEV_SHIM_EXHAUSTED && __ratelimit(&exhausted))
		pr_warn("%s: the pool is exhausted: %llu KiB are free, %zu bytes are wanted; the driver tries again, pool_max would help\n",
			name, free >> 10, len);
	if (refusal == SEV_SHIM_QUOTA && __ratelimit(&quota))
		pr_warn("%s: its share of the pool is used up: no %zu bytes more; the driver tries again, pool_max would help\n",
			name, len);
}
