// SPDX-License-Identifier: GPL-2.0
/*
 * Which virtio devices do their DMA through the pool: they are adopted before their driver binds and
 * released after it is gone, so that no buffer is ever mapped one way and unmapped the other.
 */

#include <linux/blkdev.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_scsi.h>

#include "shim.h"
#include "virtio.h"

static char *dma = "auto";
module_param(dma, charp, 0444);
MODULE_PARM_DESC(dma, " DMA of virtio devices through the pool: auto (default: in SEV guests) or off");

static bool force;
module_param(force, bool, 0444);
MODULE_PARM_DESC(force, " use the pool though this is no SEV guest (default false)");

static char *admit = "none";
module_param(admit, charp, 0444);
MODULE_PARM_DESC(admit, " devices without ACCESS_PLATFORM to be used all the same: none (default), all, or names and device ids with commas between them");

static unsigned int pool_min = 8;
module_param(pool_min, uint, 0444);
MODULE_PARM_DESC(pool_min, " MiB the pool never goes below (default 8)");

static unsigned int pool_max;
module_param(pool_max, uint, 0444);
MODULE_PARM_DESC(pool_max, " MiB the pool never goes above (default 0: a quarter of the RAM, 1024 at most)");

static bool copy_in;
module_param(copy_in, bool, 0444);
MODULE_PARM_DESC(copy_in, " copy buffers that a device is to fill into the pool first, as swiotlb does (default false)");

const char *sev_shim_dma(void)
{
	return dma;
}

bool sev_shim_force(void)
{
	return force;
}

const char *sev_shim_admit(void)
{
	return admit;
}

unsigned int sev_shim_pool_min(void)
{
	return pool_min;
}

unsigned int sev_shim_pool_max(void)
{
	return pool_max;
}

bool sev_shim_copy_in(void)
{
	return copy_in;
}

/* A device whose config operations go through ours, and its map operations are ours. */
struct adoption {
	const struct virtio_config_ops *original;
	struct virtio_config_ops config;
	/* Features the driver does not see. */
	u64 hidden;
	/* Whether the device offers ACCESS_PLATFORM. */
	bool access_platform;
	int slot;
	struct rcu_head rcu;
};

static struct adoption *adoption_of(struct virtio_device *vdev)
{
	return (struct adoption *)container_of(vdev->config, struct adoption, config);
}

bool sev_shim_is_adopted(const struct virtio_device *vdev)
{
	return vdev->map == &sev_shim_map_ops;
}

/*
 * With ACCESS_PLATFORM in vdev->features the rings use map operations, and a SEV guest accepts the device.
 * One that does not offer it is not told; it sees nothing but the pool all the same. Some drivers clear it in
 * validate(), after which this is called again.
 */
static int finalize_features(struct virtio_device *vdev)
{
	struct adoption *adoption = adoption_of(vdev);
	int ret;

	if (adoption->access_platform)
		__virtio_set_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	else
		__virtio_clear_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	vdev->features &= ~adoption->hidden;
	ret = adoption->original->finalize_features(vdev);
	if (!ret)
		__virtio_set_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	return ret;
}

/* Disks of SCSI are found later than the driver is bound: it is told what they can take at most. */
static void get_config(struct virtio_device *vdev, unsigned int offset, void *buf, unsigned int len)
{
	const unsigned int at = offsetof(struct virtio_scsi_config, max_sectors);
	struct virtio_scsi_config *config = buf - offset;
	u32 most;

	adoption_of(vdev)->original->get(vdev, offset, buf, len);
	if (vdev->id.device != VIRTIO_ID_SCSI || offset > at || offset + len < at + sizeof(most))
		return;
	most = virtio32_to_cpu(vdev, config->max_sectors);
	if (!most || most > sev_shim_largest_sectors())
		config->max_sectors = cpu_to_virtio32(vdev, sev_shim_largest_sectors());
}

static void describe(struct virtio_device *vdev, struct sev_shim_device *to)
{
	u64 features[VIRTIO_FEATURES_U64S];

	virtio_get_features(vdev, features);
	*to = (struct sev_shim_device){
		.parent = vdev->dev.parent,
		.name = dev_name(&vdev->dev),
		.driver = vdev->dev.driver ? vdev->dev.driver->name : NULL,
		.id = vdev->id.device,
		.dma_mask = dma_get_mask(vdev->dev.parent),
		.needed_mask = dma_get_required_mask(vdev->dev.parent),
		.align_mask = dma_get_min_align_mask(vdev->dev.parent),
		.version_1 = virtio_features_test_bit(features, VIRTIO_F_VERSION_1),
		.access_platform = virtio_features_test_bit(features, VIRTIO_F_ACCESS_PLATFORM),
		.mapped_by_transport = vdev->map && !sev_shim_is_adopted(vdev),
		.behind_iommu = device_iommu_mapped(vdev->dev.parent),
	};
}

/* What device and driver have agreed on; a device that does not offer ACCESS_PLATFORM knows nothing of it. */
static void note_features(struct virtio_device *vdev)
{
	u64 features = vdev->features;

	if (sev_shim_is_adopted(vdev) && !adoption_of(vdev)->access_platform)
		features &= ~BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	sev_shim_note_features(dev_name(&vdev->dev), features);
}

static void adopt(struct virtio_device *vdev)
{
	struct sev_shim_device device;
	struct adoption *adoption;
	u64 hidden;
	int slot;

	describe(vdev, &device);
	adoption = kzalloc_obj(*adoption);
	slot = sev_shim_adopt(&device, !adoption, &hidden);
	if (slot < 0) {
		kfree(adoption);
		return;
	}
	adoption->slot = slot;
	adoption->hidden = hidden;
	adoption->access_platform = device.access_platform;
	adoption->original = vdev->config;
	adoption->config = *vdev->config;
	adoption->config.finalize_features = finalize_features;
	adoption->config.get = get_config;
	vdev->config = &adoption->config;
	vdev->vmap.dma_dev = vdev->dev.parent;
	vdev->map = &sev_shim_map_ops;
}

static void free_adoption(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct adoption, rcu));
}

static void release(struct virtio_device *vdev)
{
	struct adoption *adoption = adoption_of(vdev);

	vdev->map = NULL;
	vdev->vmap.dma_dev = NULL;
	vdev->config = adoption->original;
	sev_shim_release(adoption->slot);
	/*
	 * The bus reads vdev->config->get_status for sysfs without any lock; who has read the first half of that
	 * is somewhere in there until it sleeps or returns.
	 */
	call_rcu_tasks(&adoption->rcu, free_adoption);
}

/* Devices are adopted and given back by request; one request at a time. */
static DEFINE_MUTEX(lock);
static bool active;

static int notified(struct notifier_block *block, unsigned long action, void *data)
{
	struct virtio_device *vdev = dev_to_virtio((struct device *)data);

	switch (action) {
	case BUS_NOTIFY_BIND_DRIVER:
		if (READ_ONCE(active) && !sev_shim_is_adopted(vdev))
			adopt(vdev);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
		note_features(vdev);
		if (sev_shim_is_adopted(vdev))
			sev_shim_limit_disks(vdev);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
		if (sev_shim_is_adopted(vdev))
			release(vdev);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		sev_shim_forget(dev_name(data));
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block bus_block = {
	.notifier_call = notified,
};

/* Matches nothing: it tells which bus it is on. */
static const struct virtio_device_id no_devices[] = { {} };

static int never_probed(struct virtio_device *vdev)
{
	return -ENODEV;
}

static struct virtio_driver anchor = {
	.driver.name = "virtio_sev_shim",
	.driver.suppress_bind_attrs = true,
	.id_table = no_devices,
	.probe = never_probed,
};

static int note_bound(struct device *dev, void *unused)
{
	struct sev_shim_device device;

	/* Whoever binds or unbinds it holds this lock. */
	scoped_guard(device, dev) {
		if (dev->driver && !sev_shim_is_adopted(dev_to_virtio(dev))) {
			describe(dev_to_virtio(dev), &device);
			sev_shim_note_bound(&device);
			note_features(dev_to_virtio(dev));
		}
	}
	return 0;
}

static int limit_adopted(struct device *dev, void *unused)
{
	/* Its driver stays bound meanwhile. */
	scoped_guard(device, dev) {
		if (dev->driver && sev_shim_is_adopted(dev_to_virtio(dev)))
			sev_shim_limit_disks(dev_to_virtio(dev));
	}
	return 0;
}

/* Those of all adopted devices. */
void sev_shim_limit_all_disks(void)
{
	bus_for_each_dev(anchor.driver.bus, NULL, NULL, limit_adopted);
}

static int register_all(void)
{
	int ret = sev_shim_watch_nets();

	if (ret)
		return ret;
	ret = register_virtio_driver(&anchor);
	if (ret)
		goto unwatch;
	WRITE_ONCE(active, true);
	ret = bus_register_notifier(anchor.driver.bus, &bus_block);
	if (ret)
		goto unregister;
	return 0;

unregister:
	WRITE_ONCE(active, false);
	unregister_virtio_driver(&anchor);
unwatch:
	sev_shim_unwatch_nets();
	return ret;
}

/* From now on devices are adopted. */
int sev_shim_take_over(void)
{
	int ret;

	guard(mutex)(&lock);
	ret = register_all();
	if (!ret)
		bus_for_each_dev(anchor.driver.bus, NULL, NULL, note_bound);
	return ret;
}

static int is_open_disk(struct device *dev, void *unused)
{
	if (dev->class && !strcmp(dev->class->name, "block") && disk_openers(dev_to_disk(dev)))
		return 1;
	return device_for_each_child(dev, NULL, is_open_disk);
}

struct listing {
	char *buf;
	int len;
};

static int list_bound(struct device *dev, void *data)
{
	struct listing *listing = data;

	if (dev->driver && !sev_shim_is_adopted(dev_to_virtio(dev)))
		listing->len += sysfs_emit_at(listing->buf, listing->len, "%s ", dev_name(dev));
	return 0;
}

/* Names of devices that have a driver and are not adopted, for a file of sysfs. */
ssize_t sev_shim_list_bound(char *buf)
{
	struct listing listing = { .buf = buf };

	guard(mutex)(&lock);
	if (active)
		bus_for_each_dev(anchor.driver.bus, NULL, &listing, list_bound);
	if (!listing.len)
		return sysfs_emit(buf, "none\n");
	buf[listing.len - 1] = '\n';
	return listing.len;
}

/* Unbinds the device's driver and binds it again. */
int sev_shim_rebind(const char *name)
{
	struct device *dev;
	int ret;

	guard(mutex)(&lock);
	if (!active)
		return -EOPNOTSUPP;
	dev = bus_find_device_by_name(anchor.driver.bus, NULL, name);
	if (!dev)
		return -ENODEV;
	if (device_for_each_child(dev, NULL, is_open_disk))
		ret = -EBUSY;
	else
		ret = device_reprobe(dev);
	put_device(dev);
	return ret;
}

static int give_back(struct device *dev, void *unused)
{
	bool adopted;

	/* A driver that is being bound right now may still be adopting it; it holds this lock meanwhile. */
	scoped_guard(device, dev)
		adopted = sev_shim_is_adopted(dev_to_virtio(dev));
	if (!adopted)
		return 0;
	if (device_for_each_child(dev, NULL, is_open_disk))
		dev_err(dev, "in use while virtio_sev_shim is unloaded: what uses it loses it\n");
	if (device_reprobe(dev) < 0)
		dev_err(dev, "has no driver any more: it did not bind without virtio_sev_shim\n");
	return 0;
}

/* Ends what sev_shim_take_over() began; nothing is mapped by this module any more. */
void sev_shim_give_back(void)
{
	guard(mutex)(&lock);
	if (!active)
		return;
	WRITE_ONCE(active, false);
	bus_for_each_dev(anchor.driver.bus, NULL, NULL, give_back);
	bus_unregister_notifier(anchor.driver.bus, &bus_block);
	unregister_virtio_driver(&anchor);
	/* In this order: the pool's workers change limits. */
	sev_shim_pool_rest();
	sev_shim_unwatch_nets();
	/* free_adoption() is this module's. */
	if (IS_ENABLED(CONFIG_TASKS_RCU))
		rcu_barrier_tasks();
	else
		rcu_barrier();
}
