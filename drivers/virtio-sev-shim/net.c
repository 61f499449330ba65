// SPDX-License-Identifier: GPL-2.0
/*
 * Back-pressure for network devices: virtio_net drops a packet whose buffers cannot be mapped, so no more
 * bytes are let into its queues than the device's share of the pool holds. The stack has a limit for
 * that, the byte queue limit; packets wait in its queues then.
 */

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

#include "shim.h"
#include "virtio.h"

static void limit(struct net_device *dev)
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

static int notified(struct notifier_block *block, unsigned long event, void *data)
{
	if (event == NETDEV_REGISTER)
		limit(netdev_notifier_info_to_dev(data));
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
			limit(dev);
	up_read(&net_rwsem);
	rtnl_unlock();
}

static DECLARE_WORK(work, limit_all);

/* The shares have changed. */
void sev_shim_shares_changed(void)
{
	schedule_work(&work);
}

int sev_shim_watch_nets(void)
{
	return register_netdevice_notifier(&block);
}

void sev_shim_unwatch_nets(void)
{
	unregister_netdevice_notifier(&block);
	cancel_work_sync(&work);
}
