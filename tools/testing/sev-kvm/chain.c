// SPDX-License-Identifier: GPL-2.0
#include "chain.h"

#include <linux/psp-sev.h>
#include <sys/ioctl.h>

bool chain_read(struct chain *chain, const char *directory)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = ptr(chain->pdh), .pdh_cert_len = sizeof(chain->pdh),
		.cert_chain_address = ptr(chain->platform), .cert_chain_len = sizeof(chain->platform),
	};
	struct sev_issue_cmd cmd = { .cmd = SEV_PDH_CERT_EXPORT, .data = ptr(&export) };

	if (ioctl(sev, SEV_ISSUE_CMD, &cmd))
		return false;
	chain->amd_len = read_file(directory, "ask_ark.cert", chain->amd, sizeof(chain->amd));
	/* The firmware exports the CEK without AMD's signature. */
	return chain->amd_len && read_file(directory, "cek.cert", chain->platform + 2 * CERT_LEN, CERT_LEN) == CERT_LEN;
}
