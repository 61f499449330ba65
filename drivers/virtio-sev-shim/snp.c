// SPDX-License-Identifier: GPL-2.0
/* Requests to the firmware of an SEV-SNP guest, as the kernel itself sends them. */

#include <crypto/aes-gcm.h>
#include <linux/cc_platform.h>
#include <linux/err.h>
#include <linux/string.h>
#include <asm/sev.h>
#include <asm/svm.h>
#include <uapi/linux/sev-guest.h>

#include "shim.h"

bool sev_shim_is_snp_guest(void)
{
	return cc_platform_has(CC_ATTR_GUEST_SEV_SNP);
}

/* Returns an error pointer if there is no such key, or it was destroyed, or there are none at all. */
struct snp_msg_desc *sev_shim_snp_open(int vmpck)
{
	struct snp_msg_desc *desc;
	int ret;

	/* Others have no secrets page: what is mapped then is whatever is at address 0. */
	if (!sev_shim_is_snp_guest())
		return ERR_PTR(-ENODEV);
	desc = snp_msg_alloc();
	if (IS_ERR_OR_NULL(desc))
		return desc ?: ERR_PTR(-ENOMEM);
	ret = snp_msg_init(desc, vmpck);
	if (ret) {
		snp_msg_free(desc);
		return ERR_PTR(ret);
	}
	return desc;
}

void sev_shim_snp_close(struct snp_msg_desc *desc)
{
	snp_msg_free(desc);
}

int sev_shim_snp_vmpck(const struct snp_msg_desc *desc)
{
	return desc->vmpck_id;
}

/*
 * @out has room for a tag behind its @out_len bytes. @certs is shared memory of @pages pages or NULL;
 * @pages becomes what the host wants if that does not suffice.
 */
int sev_shim_snp_request(struct snp_msg_desc *desc, u8 type, u8 version, u64 exit_code, void *request,
			 size_t len, void *out, size_t out_len, void *certs, u32 *pages, u64 *exitinfo2)
{
	struct snp_guest_req req = {
		.req_buf = request,
		.req_sz = len,
		.resp_buf = out,
		.resp_sz = out_len + AUTHTAG_LEN,
		.exit_code = exit_code,
		.vmpck_id = desc->vmpck_id,
		.msg_version = version,
		.msg_type = type,
		.certs_data = certs,
		.input.data_npages = *pages,
	};
	int ret = snp_send_guest_request(desc, &req);

	/*
	 * The kernel has destroyed the key, and would keep what the cipher made of it until the
	 * module goes. That happens last in the call that does it; all others look for the key
	 * first, under the same mutex, and it never comes back: nobody uses this any more.
	 */
	if (!READ_ONCE(desc->vmpck))
		memzero_explicit(desc->gcm_key, sizeof(*desc->gcm_key));
	*exitinfo2 = req.exitinfo2;
	*pages = req.input.data_npages;
	return ret;
}
