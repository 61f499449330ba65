// SPDX-License-Identifier: GPL-2.0
/*
 * When the pool grows and shrinks: in process context, where memory can be shared.
 */

#include <linux/workqueue.h>

#include "shim.h"

/* Most of the pool must be free for that long. */
#define IDLE_PERIOD (10 * HZ)

static void grow(struct work_struct *work);
static void look_for_idle(struct work_struct *work);
static DECLARE_WORK(grow_work, grow);
static DECLARE_DELAYED_WORK(idle_work, look_for_idle);

static void grow(struct work_struct *work)
{
	if (sev_shim_pool_grow())
		schedule_delayed_work(&idle_work, IDLE_PERIOD);
}

/* Goes on as long as there is something to give back. */
static void look_for_idle(struct work_struct *work)
{
	if (sev_shim_pool_shrink())
		schedule_delayed_work(&idle_work, IDLE_PERIOD);
}

/* Any context. */
void sev_shim_pool_kick(void)
{
	queue_work(system_dfl_wq, &grow_work);
}

/* Nobody may kick it any more. */
void sev_shim_pool_rest(void)
{
	cancel_work_sync(&grow_work);
	cancel_delayed_work_sync(&idle_work);
}
