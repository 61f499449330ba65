// SPDX-License-Identifier: GPL-2.0
/* What the driver does when the machine restarts, panics or goes to sleep: calls to power.rs. */

#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "shim.h"

static int on_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	ccp_sev_on_reboot();
	return NOTIFY_DONE;
}

static int on_panic(struct notifier_block *nb, unsigned long action, void *data)
{
	ccp_sev_on_panic();
	return NOTIFY_DONE;
}

static int on_sleep(struct notifier_block *nb, unsigned long action, void *data)
{
	switch (action) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	/* This kernel ends, and the one that is restored has a TMR of its own. */
	case PM_RESTORE_PREPARE:
		return notifier_from_errno(ccp_sev_before_sleep());
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		ccp_sev_after_sleep();
		return NOTIFY_DONE;
	default:
		return NOTIFY_DONE;
	}
}

/* Last: KVM ends its guests before. */
static struct notifier_block reboot_nb = { .notifier_call = on_reboot, .priority = INT_MIN };
static struct notifier_block panic_nb = { .notifier_call = on_panic, .priority = INT_MIN };
static struct notifier_block sleep_nb = { .notifier_call = on_sleep };

int ccp_sev_watch_power(void)
{
	int ret;

	ret = register_reboot_notifier(&reboot_nb);
	if (ret)
		return ret;
	ret = register_pm_notifier(&sleep_nb);
	if (ret) {
		unregister_reboot_notifier(&reboot_nb);
		return ret;
	}
	atomic_notifier_chain_register(&panic_notifier_list, &panic_nb);
	return 0;
}

void ccp_sev_unwatch_power(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_nb);
	unregister_pm_notifier(&sleep_nb);
	unregister_reboot_notifier(&reboot_nb);
}
