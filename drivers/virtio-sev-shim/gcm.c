// SPDX-License-Identifier: GPL-2.0
/* AES-256-GCM. The size of a prepared key is the kernel's business, so it is allocated here. */

#include <crypto/aes-gcm.h>
#include <linux/slab.h>

#include "shim.h"

#define KEY_LEN 32
#define TAG_LEN 16

struct aes_gcm_key *sev_shim_gcm_prepare(const u8 *key)
{
	struct aes_gcm_key *prepared = kzalloc(sizeof(*prepared), GFP_KERNEL);

	if (prepared && aes_gcm_preparekey(prepared, key, KEY_LEN, TAG_LEN)) {
		kfree_sensitive(prepared);
		return NULL;
	}
	return prepared;
}

void sev_shim_gcm_destroy(struct aes_gcm_key *key)
{
	kfree_sensitive(key);
}

void sev_shim_gcm_encrypt(const struct aes_gcm_key *key, const u8 *iv, const u8 *aad, size_t aad_len,
			  u8 *text, size_t len, u8 *tag)
{
	aes_gcm_encrypt(text, text, len, tag, aad, aad_len, iv, key);
}

int sev_shim_gcm_decrypt(const struct aes_gcm_key *key, const u8 *iv, const u8 *aad, size_t aad_len,
			 u8 *text, size_t len, const u8 *tag)
{
	return aes_gcm_decrypt(text, text, len, tag, aad, aad_len, iv, key);
}
