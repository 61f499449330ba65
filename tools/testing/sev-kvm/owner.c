// SPDX-License-Identifier: GPL-2.0
#include "owner.h"

#include <stdio.h>
#include <stdlib.h>

/* Where sevctl works: its files are named by their session. */
#define DIRECTORY "/tmp/sev-kvm-owner"

static bool write_file(const char *name, const void *mem, size_t len)
{
	char path[128];
	FILE *file;
	bool done;

	snprintf(path, sizeof(path), DIRECTORY "/%s", name);
	file = fopen(path, "w");
	if (!file)
		return false;
	done = fwrite(mem, 1, len, file) == len;
	return !fclose(file) && done;
}

static bool run(const char *script)
{
	char command[512];

	snprintf(command, sizeof(command), "cd " DIRECTORY " && { %s; } >/dev/null", script);
	return system(command) == 0;
}

bool owner_session(struct session *session, const struct chain *chain, uint32_t policy)
{
	char script[256];

	if (system("mkdir -p " DIRECTORY) || !write_file("chain", chain->pdh, sizeof(chain->pdh)))
		return false;
	snprintf(script, sizeof(script),
		 "sevctl session --name vm chain %u && base64 -d vm_godh.b64 >godh && base64 -d vm_session.b64 >session",
		 policy);
	return run(script) &&
	       read_file(DIRECTORY, "godh", session->certificate, sizeof(session->certificate)) == CERT_LEN &&
	       read_file(DIRECTORY, "session", session->blob, sizeof(session->blob)) == SESSION_LEN;
}

bool owner_secret(struct secret *secret, const uint8_t *measurement)
{
	if (!write_file("measured", measurement, MEASURE_LEN) || !write_file("key", "the secret of the guest's owner", 31))
		return false;
	if (!run("sevctl secret build --tik vm_tik.bin --tek vm_tek.bin --launch-measure-blob measured "
		 "--secret 736869e5-84f0-4973-92ec-06879ce3da0b:key header payload"))
		return false;
	secret->payload_len = read_file(DIRECTORY, "payload", secret->payload, sizeof(secret->payload));
	return secret->payload_len && read_file(DIRECTORY, "header", secret->header, HEADER_LEN) == HEADER_LEN;
}
