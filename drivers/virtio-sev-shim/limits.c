// SPDX-License-Identifier: GPL-2.0
/*
 * What keeps the traffic of devices within their shares of the pool, by the stacks' own limits.
 *
 * virtio_net drops a packet whose buffers cannot be mapped: no more bytes are let into its queues than the
 * share holds, and packets wait in those of the stack. A request to a disk that is larger than its share would
 * be put back for ever: there are no larger ones then.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

#include "shim.h"
#include "virtio.h"

static void limit_net(struct net_device *dev)
{
#ifdef CONFIG_BQL
	struct device *parent = dev->dev.parent;
	unsigned int i, bytes;

	if (!parent || !is_virtio_device(parent) || !sev_shim_is_adopted(dev_to_virtio(parent)))
		return;
	bytes = sev_shim_send_limit(dev->num_tx_queues);
	for (i = 0; i < dev->num_tx_queues; i++)
		WRITE_ONCE(netdev_get_tx_queue(dev, i)->dql.max_limit, bytes);
#endif
}

static int limit_disk(struct device *dev, void *sectors)
{
	struct request_queue *queue;
	struct queue_limits limits;

	if (!dev->class || strcmp(dev->class->name, "block"))
		return device_for_each_child(dev, sectors, limit_disk);
	queue = dev_to_disk(dev)->queue;
	limits = queue_limits_start_update(queue);
	limits.max_hw_sectors = *(unsigned int *)sectors;
	if (queue_limits_commit_update_frozen(queue, &limits))
		dev_warn(dev, "requests may be larger than the device's share of the pool\n");
	return 0;
}

unsigned int sev_shim_largest_sectors(void)
{
	/* The least the block layer takes is a page. */
	return max_t(unsigned int, sev_shim_largest_request(), PAGE_SIZE) >> SECTOR_SHIFT;
}

/* Those of an adopted device whose driver is bound and stays so. */
void sev_shim_limit_disks(struct virtio_device *vdev)
{
	unsigned int sectors = sev_shim_largest_sectors();

	device_for_each_child(&vdev->dev, &sectors, limit_disk);
}

static int notified(struct notifier_block *block, unsigned long event, void *data)
{
	if (event == NETDEV_REGISTER)
		limit_net(netdev_notifier_info_to_dev(data));
	return NOTIFY_OK;
}

static struct notifier_block block = {
	.notifier_call = notified,
};

static void limit_all(struct work_struct *work)
{
	struct net_device *dev;
	struct net *net;

	rtnl_lock();
	down_read(&net_rwsem);
	for_each_net(net)
		for_each_netdev(net, dev)
			limit_net(dev);
	up_read(&net_rwsem);
	rtnl_unlock();
	sev_shim_limit_all_disks();
}

static DECLARE_WORK(work, limit_all);

/* The shares have changed. */
void sev_shim_shares_changed(void)
{
	schedule_work(&work);
}

int sev_shim_watch_nets(void)
{
	if (!IS_ENABLED(CONFIG_BQL))
		pr_notice("no byte queue limits in this kernel (CONFIG_BQL): network drivers drop packets when their share of the pool is used up\n");
	return register_netdevice_notifier(&block);
}

void sev_shim_unwatch_nets(void)
{
	unregister_netdevice_notifier(&block);
	cancel_work_sync(&work);
}
