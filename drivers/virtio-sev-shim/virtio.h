/* SPDX-License-Identifier: GPL-2.0 */
/* What the C files about virtio devices share, and the functions of Rust that they call. */
#ifndef SEV_SHIM_VIRTIO_H
#define SEV_SHIM_VIRTIO_H

#include <linux/types.h>

struct device;
struct virtio_device;
struct virtio_map_ops;

/* A virtio device as devices.rs sees it. */
struct sev_shim_device {
	struct device *parent;
	const char *name;
	const char *driver;
	u64 dma_mask;
	u64 needed_mask;
	u64 align_mask;
	u32 id;
	bool version_1;
	bool access_platform;
	bool mapped_by_transport;
	bool behind_iommu;
};

/* virtio.c and dma.rs */
bool sev_shim_is_adopted(const struct virtio_device *vdev);
void sev_shim_limit_all_disks(void);
int sev_shim_adopt(const struct sev_shim_device *device, bool no_memory, u64 *hidden);
void sev_shim_release(int slot);
void sev_shim_note_bound(const struct sev_shim_device *device);
void sev_shim_note_features(const char *name, u64 features);
void sev_shim_forget(const char *name);

/* map_ops.c and dma/calls.rs */
extern const struct virtio_map_ops sev_shim_map_ops;
u64 sev_shim_map(struct device *parent, void *original, size_t len, u32 dir, bool skip_sync, u32 cpu);
void sev_shim_unmap(struct device *parent, u64 addr, u32 dir, bool skip_sync, u32 cpu);
void sev_shim_sync(struct device *parent, u64 addr, size_t len, u32 dir, bool for_cpu, u32 cpu);
void *sev_shim_alloc_coherent(struct device *parent, size_t len, u64 *addr, bool may_sleep, u32 cpu);
void sev_shim_free_coherent(struct device *parent, u64 addr);
bool sev_shim_is_bounced(u64 addr);
size_t sev_shim_max_mapping(void);

/* limits.c and dma.rs */
int sev_shim_watch_nets(void);
void sev_shim_unwatch_nets(void);
void sev_shim_limit_disks(struct virtio_device *vdev);
unsigned int sev_shim_largest_sectors(void);
unsigned int sev_shim_send_limit(unsigned int queues);
unsigned int sev_shim_largest_request(void);

#endif
