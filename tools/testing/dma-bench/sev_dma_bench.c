// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to map and unmap a buffer for a device, without the copies: by the kernel's bounce
 * buffers, and by the map operations of a virtio device that the guest helper has adopted. On one CPU,
 * and on two at once.
 *
 * It measures when it is loaded and leaves a line in the log for each way, size and round. A mapping is
 * from the device and is unmapped without a copy. The kernel's own copies in nevertheless: the copy
 * alone is a line, too ("copy"), to be subtracted. Mappings that its bounce buffers cannot hold are made in
 * pieces. A line without a size is for what a disk's request of a page needs, while others are under way.
 * Instructions are those of the kernel on the CPU they run on, as the lab's plugin counts them; 0 where
 * nobody does.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

#include <asm/cpuid/api.h>

/* tools/testing/sev-cpu/src/instructions.rs */
#define INSTRUCTIONS_LEAF 0x5e500000u
#define INSTRUCTIONS_SIGNATURE 0x53455643u

#define ROUNDS 5
/* Long enough that it does not matter when the other CPU begins, and not for ever with large buffers. */
#define CALLS(size) max(SZ_256M / (size), 200)
#define MOST_CPUS 2
#define LARGEST SZ_1M

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "virtio device to map buffers for, e.g. virtio3");

static const size_t sizes[] = { SZ_4K, SZ_64K, SZ_1M };

/* What virtio_blk has mapped for a request that reads a page: table of descriptors, header, data, status. */
static const struct {
	size_t at, size;
	enum dma_data_direction dir;
} parts[] = {
	{ SZ_4K, 48, DMA_TO_DEVICE },
	{ SZ_4K + 64, 16, DMA_TO_DEVICE },
	{ 0, SZ_4K, DMA_FROM_DEVICE },
	{ SZ_4K + 80, 1, DMA_FROM_DEVICE },
};

#define REQUESTS 32
#define REQUEST_CALLS 32768

struct way {
	const char *name;
	/* Maps and unmaps or copies a buffer once. */
	int (*once)(struct virtio_device *vdev, void *buffer, void *other, size_t size);
	/* Map a buffer, and unmap it without a copy; none if the way does not map. */
	dma_addr_t (*map)(struct virtio_device *vdev, void *buffer, size_t size,
			  enum dma_data_direction dir);
	void (*unmap)(struct virtio_device *vdev, dma_addr_t handle, size_t size,
		      enum dma_data_direction dir);
};

struct worker {
	struct virtio_device *vdev;
	const struct way *way;
	size_t size;
	void *buffer, *other;
	struct completion *go;
	struct completion done;
	u64 instructions, ns;
	int error;
};

static u64 instructions(void)
{
	u32 eax = INSTRUCTIONS_LEAF, ebx, ecx = 0, edx;

	native_cpuid(&eax, &ebx, &ecx, &edx);
	return ebx == INSTRUCTIONS_SIGNATURE ? (u64)edx << 32 | eax : 0;
}

static dma_addr_t map_by_swiotlb(struct virtio_device *vdev, void *buffer, size_t size,
				 enum dma_data_direction dir)
{
	struct device *dev = vdev->dev.parent;
	dma_addr_t handle = dma_map_single(dev, buffer, size, dir);

	return dma_mapping_error(dev, handle) ? DMA_MAPPING_ERROR : handle;
}

static void unmap_by_swiotlb(struct virtio_device *vdev, dma_addr_t handle, size_t size,
			     enum dma_data_direction dir)
{
	dma_unmap_single_attrs(vdev->dev.parent, handle, size, dir, DMA_ATTR_SKIP_CPU_SYNC);
}

static int by_swiotlb(struct virtio_device *vdev, void *buffer, void *other, size_t size)
{
	dma_addr_t handles[LARGEST / SZ_64K];
	size_t piece = min(size, dma_max_mapping_size(vdev->dev.parent)), at;
	int mapped = 0, error = 0;

	/* Whole pages, and pieces of one size. */
	piece = rounddown_pow_of_two(piece);
	if (size / piece > ARRAY_SIZE(handles))
		return -E2BIG;
	for (at = 0; at < size; at += piece, mapped++) {
		handles[mapped] = map_by_swiotlb(vdev, buffer + at, piece, DMA_FROM_DEVICE);
		if (handles[mapped] == DMA_MAPPING_ERROR) {
			error = -ENOMEM;
			break;
		}
	}
	while (mapped--)
		unmap_by_swiotlb(vdev, handles[mapped], piece, DMA_FROM_DEVICE);
	return error;
}

/* As virtio-pci has it: most operations are given the device that does the DMA. */
static union virtio_map map_of(struct virtio_device *vdev)
{
	return (union virtio_map){ .dma_dev = vdev->dev.parent };
}

static dma_addr_t map_by_operations(struct virtio_device *vdev, void *buffer, size_t size,
				    enum dma_data_direction dir)
{
	return vdev->map->map_page(map_of(vdev), virt_to_page(buffer), offset_in_page(buffer), size,
				   dir, 0);
}

static void unmap_by_operations(struct virtio_device *vdev, dma_addr_t handle, size_t size,
				enum dma_data_direction dir)
{
	vdev->map->unmap_page(map_of(vdev), handle, size, dir, DMA_ATTR_SKIP_CPU_SYNC);
}

static int by_map_operations(struct virtio_device *vdev, void *buffer, void *other, size_t size)
{
	dma_addr_t handle = map_by_operations(vdev, buffer, size, DMA_FROM_DEVICE);

	if (vdev->map->mapping_error(map_of(vdev), handle))
		return -ENOMEM;
	unmap_by_operations(vdev, handle, size, DMA_FROM_DEVICE);
	return 0;
}

static int by_copy(struct virtio_device *vdev, void *buffer, void *other, size_t size)
{
	memcpy(other, buffer, size);
	/* The copy is for its own sake. */
	barrier_data(other);
	return 0;
}

static const struct way ways[] = {
	{ "copy", by_copy },
	{ "swiotlb", by_swiotlb, map_by_swiotlb, unmap_by_swiotlb },
	{ "shim", by_map_operations, map_by_operations, unmap_by_operations },
};

static int work(void *data)
{
	struct worker *worker = data;
	u64 before, began;
	/* Not worker->error, which would be written at each call: the next worker is in the same cache line. */
	int call, error = 0;

	wait_for_completion(worker->go);
	began = ktime_get_ns();
	before = instructions();
	for (call = 0; call < CALLS(worker->size) && !error; call++)
		error = worker->way->once(worker->vdev, worker->buffer, worker->other, worker->size);
	worker->error = error;
	worker->instructions = instructions() - before;
	worker->ns = ktime_get_ns() - began;
	complete(&worker->done);
	return 0;
}

/* Has so many CPUs do the same at once, and tells the log what it has cost each of them on average. */
static int measure(struct virtio_device *vdev, const struct way *way, size_t size, int cpus)
{
	DECLARE_COMPLETION_ONSTACK(go);
	struct worker workers[MOST_CPUS] = {};
	u64 total = 0, ns = 0;
	int cpu, started = 0, error = 0;

	for (cpu = 0; cpu < cpus && !error; cpu++) {
		struct worker *worker = &workers[cpu];
		struct task_struct *task;

		*worker = (struct worker){ .vdev = vdev, .way = way, .size = size, .go = &go };
		init_completion(&worker->done);
		worker->buffer = (void *)__get_free_pages(GFP_KERNEL, get_order(size));
		worker->other = (void *)__get_free_pages(GFP_KERNEL, get_order(size));
		if (!worker->buffer || !worker->other) {
			error = -ENOMEM;
			break;
		}
		task = kthread_create_on_cpu(work, worker, cpu, "sev_dma_bench/%u");
		if (IS_ERR(task)) {
			error = PTR_ERR(task);
			break;
		}
		wake_up_process(task);
		started++;
	}
	complete_all(&go);
	for (cpu = 0; cpu < started; cpu++) {
		wait_for_completion(&workers[cpu].done);
		error = error ?: workers[cpu].error;
		total += workers[cpu].instructions;
		ns += workers[cpu].ns;
	}
	for (cpu = 0; cpu < cpus; cpu++) {
		free_pages((unsigned long)workers[cpu].buffer, get_order(size));
		free_pages((unsigned long)workers[cpu].other, get_order(size));
	}
	if (!error)
		pr_info("way=%s cpus=%d size=%zu instructions=%llu ns=%llu\n", way->name, cpus, size,
			total / (CALLS(size) * cpus), ns / (CALLS(size) * cpus));
	return error;
}

struct request {
	/* A page of data, and its other parts. */
	char bytes[2 * SZ_4K];
	/* DMA_MAPPING_ERROR: not mapped. */
	dma_addr_t handles[ARRAY_SIZE(parts)];
};

static int begin(struct virtio_device *vdev, const struct way *way, struct request *request)
{
	int part;

	for (part = 0; part < ARRAY_SIZE(parts); part++) {
		request->handles[part] = way->map(vdev, request->bytes + parts[part].at,
						  parts[part].size, parts[part].dir);
		if (request->handles[part] == DMA_MAPPING_ERROR)
			return -ENOMEM;
	}
	return 0;
}

static void end(struct virtio_device *vdev, const struct way *way, struct request *request)
{
	int part;

	for (part = 0; part < ARRAY_SIZE(parts); part++) {
		if (request->handles[part] != DMA_MAPPING_ERROR)
			way->unmap(vdev, request->handles[part], parts[part].size, parts[part].dir);
		request->handles[part] = DMA_MAPPING_ERROR;
	}
}

/* Again and again the oldest request ends and another begins: what both cost together. */
static int measure_requests(struct virtio_device *vdev, const struct way *way)
{
	struct request **requests = kcalloc(REQUESTS, sizeof(*requests), GFP_KERNEL);
	int call, error = requests ? 0 : -ENOMEM;
	u64 before, began;

	for (call = 0; call < REQUESTS && !error; call++) {
		/* So large a piece is whole pages. */
		requests[call] = kmalloc_obj(*requests[call], GFP_KERNEL);
		if (!requests[call]) {
			error = -ENOMEM;
			break;
		}
		memset(requests[call], 0xff, sizeof(*requests[call]));
		error = begin(vdev, way, requests[call]);
	}
	began = ktime_get_ns();
	before = instructions();
	for (call = 0; call < REQUEST_CALLS && !error; call++) {
		end(vdev, way, requests[call % REQUESTS]);
		error = begin(vdev, way, requests[call % REQUESTS]);
	}
	if (!error)
		pr_info("way=%s request instructions=%llu ns=%llu\n", way->name,
			(instructions() - before) / REQUEST_CALLS,
			(ktime_get_ns() - began) / REQUEST_CALLS);
	for (call = 0; requests && call < REQUESTS && requests[call]; call++) {
		end(vdev, way, requests[call]);
		kfree(requests[call]);
	}
	kfree(requests);
	return error;
}

/* All ways, sizes and rounds for a device. */
static int measure_all(struct virtio_device *vdev)
{
	int round, way, size, cpus, error;

	for (round = 0; round < ROUNDS; round++) {
		for (way = 0; way < ARRAY_SIZE(ways); way++) {
			if (ways[way].once == by_map_operations && !vdev->map)
				continue;
			for (size = 0; size < ARRAY_SIZE(sizes); size++) {
				for (cpus = 1; cpus <= min_t(int, num_online_cpus(), MOST_CPUS); cpus++) {
					error = measure(vdev, &ways[way], sizes[size], cpus);
					if (error)
						return error;
				}
			}
			error = ways[way].map ? measure_requests(vdev, &ways[way]) : 0;
			if (error)
				return error;
		}
	}
	return 0;
}

/* Never bound to a device: registering it is how a module gets at the bus. */
static int no_probe(struct virtio_device *vdev)
{
	return -ENODEV;
}

static void no_remove(struct virtio_device *vdev)
{
}

static const struct virtio_device_id no_devices[] = { {} };

static struct virtio_driver way_in = {
	.driver.name = KBUILD_MODNAME,
	.id_table = no_devices,
	.probe = no_probe,
	.remove = no_remove,
};

static int __init sev_dma_bench_init(void)
{
	struct device *dev;
	int error = device ? register_virtio_driver(&way_in) : -EINVAL;

	if (error)
		return error;
	dev = bus_find_device_by_name(way_in.driver.bus, NULL, device);
	unregister_virtio_driver(&way_in);
	if (!dev)
		return -ENODEV;
	error = measure_all(dev_to_virtio(dev));
	put_device(dev);
	return error;
}
module_init(sev_dma_bench_init);

static void __exit sev_dma_bench_exit(void)
{
}
module_exit(sev_dma_bench_exit);

MODULE_DESCRIPTION("Measures what mapping buffers for a virtio device costs");
MODULE_LICENSE("GPL");
