// SPDX-License-Identifier: GPL-2.0
/* The provider of attestation reports in configfs: /sys/kernel/config/tsm/report. */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/tsm.h>

#include "shim.h"

#define INBLOB_LEN 64

/* The host decides how often: one line a minute. */
void sev_shim_log_certificates(bool truncated)
{
	static struct ratelimit_state rate =
		RATELIMIT_STATE_INIT_FLAGS(rate, 60 * HZ, 1, RATELIMIT_MSG_ON_RELEASE);

	if (!__ratelimit(&rate))
		return;
	if (truncated)
		pr_warn("certificates beyond their buffer\n");
	else
		pr_warn("certificates without a length\n");
}

static int report_new(struct tsm_report *report, void *unused)
{
	struct tsm_report_desc *desc = &report->desc;
	size_t out_len = SEV_SHIM_OUTBLOB_LEN;
	size_t aux_len = SEV_SHIM_AUXBLOB_LEN;
	int ret;

	/* Services of an SVSM have to be asked for elsewhere. */
	if (desc->inblob_len != INBLOB_LEN || desc->service_provider)
		return -EINVAL;

	u8 *out __free(kvfree) = kvzalloc(out_len, GFP_KERNEL);
	u8 *aux __free(kvfree) = kvzalloc(aux_len, GFP_KERNEL);

	if (!out || !aux)
		return -ENOMEM;
	ret = sev_shim_report(desc->inblob, desc->privlevel, out, &out_len, aux, &aux_len);
	if (ret)
		return ret;
	report->outblob_len = out_len;
	report->outblob = no_free_ptr(out);
	if (aux_len) {
		report->auxblob_len = aux_len;
		report->auxblob = no_free_ptr(aux);
	}
	return 0;
}

static bool attr_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER || n == TSM_REPORT_PRIVLEVEL ||
	       n == TSM_REPORT_PRIVLEVEL_FLOOR;
}

static bool bin_attr_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB || n == TSM_REPORT_AUXBLOB;
}

static struct tsm_report_ops ops = {
	/* The C driver's: user space knows the provider by its module's name. */
	.name = "sev_guest",
	.report_new = report_new,
	.report_attr_visible = attr_visible,
	.report_bin_attr_visible = bin_attr_visible,
};

/* -EBUSY if there is a provider already: there can be one. */
int sev_shim_provide_reports(unsigned int privlevel_floor)
{
	ops.privlevel_floor = privlevel_floor;
	return tsm_report_register(&ops, NULL);
}

void sev_shim_stop_providing_reports(void)
{
	tsm_report_unregister(&ops);
}
