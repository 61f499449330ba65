// SPDX-License-Identifier: GPL-2.0
/*
 * Runs every legacy ioctl of /dev/sev with good and bad arguments and prints what came back, one
 * line per call, for comparing one driver with another. It is written in C against the kernel's own
 * <linux/psp-sev.h>, so that it shares no definition with the driver under test.
 *
 * A line: NAME ret ERRNO error=FIRMWARE_STATUS [key=value ...]
 *
 * Bytes are printed as a digest. After keys were made anew they are random, so from then on only
 * the fields of certificates that are not key or signature are printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CERT_LEN 2084
#define CHAIN_LEN (3 * CERT_LEN)
#define BLOB_MAX (16 * 1024)
/* What `error` and output buffers hold before a call: what is not written stays recognisable. */
#define UNTOUCHED 0x5a5a5a5au
#define FILL 0xa5
/* An address nobody can map, and one that is not canonical. */
#define BAD_ADDR 0xdead000ull
#define WILD_ADDR 0x8000000000000000ull

static int fds[4]; /* by access mode */
static const char *const modes[] = { "ro", "wo", "rw" };
static const char *phase = "";
static bool random_keys;
static uint8_t *readonly_page;
static uint8_t *big;

static const char *errno_name(int e)
{
	static char other[16];

	switch (e) {
	case 0: return "OK";
	case EPERM: return "EPERM";
	case EINTR: return "EINTR";
	case EIO: return "EIO";
	case EBADF: return "EBADF";
	case ENOMEM: return "ENOMEM";
	case EFAULT: return "EFAULT";
	case EBUSY: return "EBUSY";
	case ENODEV: return "ENODEV";
	case EISDIR: return "EISDIR";
	case EINVAL: return "EINVAL";
	case ENOSPC: return "ENOSPC";
	case EROFS: return "EROFS";
	case ENOTTY: return "ENOTTY";
	case ETIMEDOUT: return "ETIMEDOUT";
	case 524: return "ENOTSUPP";
	}
	snprintf(other, sizeof(other), "errno%d", e);
	return other;
}

/* FNV-1a: not a secret, just short. */
static uint64_t digest(const void *mem, size_t len)
{
	const uint8_t *p = mem;
	uint64_t h = 0xcbf29ce484222325ull;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}

static int call_fd(const char *name, const char *mode, int fd, uint32_t cmd, uint64_t data)
{
	struct sev_issue_cmd issue = { .cmd = cmd, .data = data, .error = UNTOUCHED };
	int err = ioctl(fd, SEV_ISSUE_CMD, &issue) ? errno : 0;

	printf("%s%s %s %s error=%#x", phase, name, mode, errno_name(err), issue.error);
	if (issue.cmd != cmd || issue.data != data)
		printf(" ISSUE-CHANGED");
	return err;
}

static int call(const char *name, int mode, uint32_t cmd, uint64_t data)
{
	return call_fd(name, modes[mode], fds[mode], cmd, data);
}

static int call_end(const char *name, int mode, uint32_t cmd, uint64_t data)
{
	int err = call(name, mode, cmd, data);

	printf("\n");
	return err;
}

static uint64_t ptr(void *p)
{
	return (uintptr_t)p;
}

/* Prints a buffer of `len` bytes that had room for `room`; what follows must be untouched. */
static void print_bytes(const char *key, const uint8_t *mem, size_t len, size_t room)
{
	size_t past = 0;

	printf(" %s=%016llx", key, (unsigned long long)digest(mem, len));
	for (size_t i = len; i < room + 64; i++)
		past += mem[i] != FILL;
	printf(past ? " PAST-END:%zu" : "", past);
}

static void print_certs(const char *key, const uint8_t *mem, size_t len, size_t room)
{
	if (!random_keys) {
		print_bytes(key, mem, len, room);
		return;
	}
	for (size_t at = 0; at + CERT_LEN <= len; at += CERT_LEN) {
		const uint8_t *c = mem + at;

		printf(" %s[%zu]=%016llx:%016llx:%016llx", key, at / CERT_LEN, (unsigned long long)digest(c, 0x14),
		       (unsigned long long)digest(c + 0x414, 8), (unsigned long long)digest(c + 0x61c, 8));
	}
	for (size_t i = len; i < room + 64; i++)
		if (mem[i] != FILL) {
			printf(" %s-PAST-END", key);
			break;
		}
}

static uint8_t *buffer(size_t room)
{
	static uint8_t mem[2][BLOB_MAX * 2 + 64];
	static int turn;
	uint8_t *p = mem[turn ^= 1];

	memset(p, FILL, room + 64);
	return p;
}

static void status(void)
{
	struct sev_user_data_status s;
	int err;

	memset(&s, FILL, sizeof(s));
	err = call("  status", 0, SEV_PLATFORM_STATUS, ptr(&s));
	if (!err)
		printf(" api=%u.%u build=%u state=%u flags=%#x guests=%u", s.api_major, s.api_minor, s.build, s.state,
		       s.flags, s.guest_count);
	printf("\n");
}

static void csr(const char *name, int mode, uint64_t address, uint32_t length, const uint8_t *mem)
{
	struct sev_user_data_pek_csr arg = { .address = address, .length = length };
	int err = call(name, mode, SEV_PEK_CSR, ptr(&arg));

	printf(" length=%u", arg.length);
	if (mem)
		print_certs("csr", mem, err ? 0 : arg.length, length <= BLOB_MAX ? length : 0);
	printf("\n");
}

static void pek_csr(void)
{
	static const uint32_t lengths[] = {
		1, 4, 2083, CERT_LEN, CERT_LEN + 1, 4096, 4097, BLOB_MAX, BLOB_MAX + 1, -1u,
	};
	char name[64];

	csr("pek_csr query", 2, 0, 0, NULL);
	csr("pek_csr no address", 2, 0, 100, NULL);
	csr("pek_csr no length", 2, BAD_ADDR, 0, NULL);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		uint8_t *mem = buffer(lengths[i] <= BLOB_MAX ? lengths[i] : 0);

		snprintf(name, sizeof(name), "pek_csr %u bytes", lengths[i]);
		csr(name, 2, ptr(mem), lengths[i], mem);
	}
	csr("pek_csr", 0, 0, 0, NULL);
	csr("pek_csr query", 1, 0, 0, NULL);
	csr("pek_csr bad blob address", 2, BAD_ADDR, CERT_LEN, NULL);
	csr("pek_csr wild blob address", 2, WILD_ADDR, CERT_LEN, NULL);
	call_end("pek_csr bad struct", 2, SEV_PEK_CSR, BAD_ADDR);
	call_end("pek_csr no struct", 2, SEV_PEK_CSR, 0);
	memset(readonly_page, 0, 64);
	mprotect(readonly_page, 4096, PROT_READ);
	call_end("pek_csr read-only struct", 2, SEV_PEK_CSR, ptr(readonly_page));
	mprotect(readonly_page, 4096, PROT_READ | PROT_WRITE);
	status();
}

static void export(const char *name, int mode, uint64_t pdh, uint32_t pdh_len, uint64_t chain, uint32_t chain_len,
		   const uint8_t *pdh_mem, const uint8_t *chain_mem)
{
	struct sev_user_data_pdh_cert_export arg = {
		.pdh_cert_address = pdh, .pdh_cert_len = pdh_len,
		.cert_chain_address = chain, .cert_chain_len = chain_len,
	};
	int err = call(name, mode, SEV_PDH_CERT_EXPORT, ptr(&arg));

	printf(" pdh_len=%u chain_len=%u", arg.pdh_cert_len, arg.cert_chain_len);
	if (pdh_mem)
		print_certs("pdh", pdh_mem, err ? 0 : arg.pdh_cert_len, pdh_len <= BLOB_MAX ? pdh_len : 0);
	if (chain_mem)
		print_certs("chain", chain_mem, err ? 0 : arg.cert_chain_len, chain_len <= BLOB_MAX ? chain_len : 0);
	printf("\n");
}

static void pdh_cert_export(void)
{
	static const struct {
		const char *name;
		uint32_t pdh, chain;
	} lengths[] = {
		{ "exact", CERT_LEN, CHAIN_LEN },
		{ "roomy", 4097, BLOB_MAX },
		{ "short pdh", CERT_LEN - 1, CHAIN_LEN },
		{ "short chain", CERT_LEN, CHAIN_LEN - 1 },
		{ "both short", 1, 1 },
		{ "long pdh", BLOB_MAX + 1, CHAIN_LEN },
		{ "long chain", CERT_LEN, BLOB_MAX + 1 },
		{ "huge", -1u, -1u },
	};
	char name[64];

	export("pdh_export query", 0, 0, 0, 0, 0, NULL, NULL);
	export("pdh_export query", 2, 0, 0, 0, 0, NULL, NULL);
	export("pdh_export one zero", 2, BAD_ADDR, CERT_LEN, BAD_ADDR, 0, NULL, NULL);
	export("pdh_export one zero, other long", 2, BAD_ADDR, BLOB_MAX + 1, 0, CHAIN_LEN, NULL, NULL);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		uint8_t *pdh = buffer(BLOB_MAX), *chain = buffer(BLOB_MAX);

		snprintf(name, sizeof(name), "pdh_export %s", lengths[i].name);
		export(name, 2, ptr(pdh), lengths[i].pdh, ptr(chain), lengths[i].chain, pdh, chain);
	}
	for (int mode = 0; mode < 2; mode++) {
		uint8_t *pdh = buffer(BLOB_MAX), *chain = buffer(BLOB_MAX);

		export("pdh_export exact", mode, ptr(pdh), CERT_LEN, ptr(chain), CHAIN_LEN, pdh, chain);
	}
	export("pdh_export bad pdh address", 2, BAD_ADDR, CERT_LEN, ptr(big), CHAIN_LEN, NULL, NULL);
	export("pdh_export bad chain address", 2, ptr(big), CERT_LEN, WILD_ADDR, CHAIN_LEN, NULL, NULL);
	call_end("pdh_export bad struct", 2, SEV_PDH_CERT_EXPORT, BAD_ADDR);
	status();
}

static void import(const char *name, int mode, uint64_t pek, uint32_t pek_len, uint64_t oca, uint32_t oca_len)
{
	struct sev_user_data_pek_cert_import arg = {
		.pek_cert_address = pek, .pek_cert_len = pek_len,
		.oca_cert_address = oca, .oca_cert_len = oca_len,
	};

	call(name, mode, SEV_PEK_CERT_IMPORT, ptr(&arg));
	printf(" struct=%s\n", arg.pek_cert_len == pek_len && arg.oca_cert_len == oca_len ? "same" : "CHANGED");
}

static void pek_cert_import(void)
{
	memset(big, 0, 2 * BLOB_MAX);
	import("pek_import zeroes", 2, ptr(big), CERT_LEN, ptr(big), CERT_LEN);
	memset(big, 0x77, 2 * BLOB_MAX);
	import("pek_import garbage", 2, ptr(big), CERT_LEN, ptr(big), CERT_LEN);
	import("pek_import garbage", 0, ptr(big), CERT_LEN, ptr(big), CERT_LEN);
	import("pek_import short pek", 2, ptr(big), CERT_LEN - 1, ptr(big), CERT_LEN);
	import("pek_import short oca", 2, ptr(big), CERT_LEN, ptr(big), 1);
	import("pek_import roomy", 2, ptr(big), BLOB_MAX, ptr(big), BLOB_MAX);
	import("pek_import no pek", 2, 0, CERT_LEN, ptr(big), CERT_LEN);
	import("pek_import no pek length", 2, ptr(big), 0, ptr(big), CERT_LEN);
	import("pek_import no oca", 2, ptr(big), CERT_LEN, 0, CERT_LEN);
	import("pek_import no oca length", 2, ptr(big), CERT_LEN, ptr(big), 0);
	import("pek_import long pek", 2, ptr(big), BLOB_MAX + 1, ptr(big), CERT_LEN);
	import("pek_import long oca", 2, ptr(big), CERT_LEN, ptr(big), BLOB_MAX + 1);
	import("pek_import bad pek address", 2, BAD_ADDR, CERT_LEN, ptr(big), CERT_LEN);
	import("pek_import bad oca address", 2, ptr(big), CERT_LEN, WILD_ADDR, CERT_LEN);
	call_end("pek_import bad struct", 2, SEV_PEK_CERT_IMPORT, BAD_ADDR);
	status();
}

static void id2(const char *name, int mode, uint64_t address, uint32_t length, const uint8_t *mem)
{
	struct sev_user_data_get_id2 arg = { .address = address, .length = length };
	int err = call(name, mode, SEV_GET_ID2, ptr(&arg));

	printf(" length=%u", arg.length);
	if (mem)
		print_bytes("id", mem, err ? 0 : arg.length, length);
	printf("\n");
}

static void get_id(void)
{
	static const uint32_t lengths[] = { 1, 63, 64, 65, 127, 128, 129, 4096, BLOB_MAX + 1 };
	uint8_t *mem = buffer(sizeof(struct sev_user_data_get_id));
	char name[64];

	call("get_id", 0, SEV_GET_ID, ptr(mem));
	print_bytes("id", mem, sizeof(struct sev_user_data_get_id), sizeof(struct sev_user_data_get_id));
	printf("\n");
	call_end("get_id bad address", 0, SEV_GET_ID, BAD_ADDR);
	call_end("get_id no address", 2, SEV_GET_ID, 0);

	id2("get_id2 query", 0, 0, 0, NULL);
	id2("get_id2 no address", 0, 0, 64, NULL);
	id2("get_id2 no length", 0, BAD_ADDR, 0, NULL);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		mem = buffer(lengths[i]);
		snprintf(name, sizeof(name), "get_id2 %u bytes", lengths[i]);
		id2(name, i % 3, ptr(mem), lengths[i], mem);
	}
	id2("get_id2 huge", 0, ptr(big), -1u, NULL);
	id2("get_id2 bad address", 0, BAD_ADDR, 128, NULL);
	call_end("get_id2 bad struct", 0, SEV_GET_ID2, WILD_ADDR);
	status();
}

static void generate(void)
{
	call_end("pek_gen", 0, SEV_PEK_GEN, 0);
	call_end("pdh_gen", 0, SEV_PDH_GEN, 0);
	random_keys = true;
	call_end("pdh_gen", 2, SEV_PDH_GEN, BAD_ADDR);
	status();
	call_end("pek_gen", 1, SEV_PEK_GEN, BAD_ADDR);
	status();
}

static void factory_reset(void)
{
	call_end("factory_reset", 0, SEV_FACTORY_RESET, 0);
	status();
	random_keys = true;
	call_end("factory_reset", 2, SEV_FACTORY_RESET, BAD_ADDR);
	status();
}

static void dispatch(void)
{
	struct sev_issue_cmd issue = { .cmd = SEV_PLATFORM_STATUS, .error = UNTOUCHED };
	static const unsigned long requests[] = {
		0, _IO('S', 0), _IOWR('S', 0, uint64_t), _IOWR('S', 1, struct sev_issue_cmd),
		_IOR('S', 0, struct sev_issue_cmd), SEV_ISSUE_CMD + 2,
	};
	static const uint32_t commands[] = { SEV_MAX, SEV_MAX + 1, 0x80000000u, -1u };
	char name[64];

	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		int err = ioctl(fds[2], requests[i], &issue) ? errno : 0;

		printf("%srequest %#lx %s error=%#x\n", phase, requests[i], errno_name(err), issue.error);
	}
	printf("%sno argument %s\n", phase, errno_name(ioctl(fds[2], SEV_ISSUE_CMD, NULL) ? errno : 0));
	printf("%sbad argument %s\n", phase, errno_name(ioctl(fds[2], SEV_ISSUE_CMD, (void *)BAD_ADDR) ? errno : 0));
	memcpy(readonly_page, &issue, sizeof(issue));
	mprotect(readonly_page, 4096, PROT_READ);
	printf("%sread-only argument %s\n", phase, errno_name(ioctl(fds[2], SEV_ISSUE_CMD, readonly_page) ? errno : 0));
	mprotect(readonly_page, 4096, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		snprintf(name, sizeof(name), "command %#x", commands[i]);
		call_end(name, 2, commands[i], BAD_ADDR);
	}
	call_end("platform_status no struct", 2, SEV_PLATFORM_STATUS, 0);
	call_end("platform_status bad struct", 0, SEV_PLATFORM_STATUS, BAD_ADDR);
	call_end("platform_status wild struct", 1, SEV_PLATFORM_STATUS, WILD_ADDR);
}

static void snp(void)
{
	for (uint32_t cmd = SNP_PLATFORM_STATUS; cmd <= SNP_VLEK_LOAD; cmd++) {
		/* On a host without SNP; SNP_COMMIT would be answered by the firmware alone. */
		for (int mode = 0; mode < 3; mode += 2) {
			char name[64];

			snprintf(name, sizeof(name), "snp command %u, no data", cmd);
			call_end(name, mode, cmd, 0);
			snprintf(name, sizeof(name), "snp command %u, bad data", cmd);
			call_end(name, mode, cmd, BAD_ADDR);
		}
	}
}

/* One command, as often as asked: for faults that the emulated PSP injects. */
static int one(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint32_t cmd;
	} commands[] = {
		{ "factory_reset", SEV_FACTORY_RESET }, { "platform_status", SEV_PLATFORM_STATUS },
		{ "pek_gen", SEV_PEK_GEN }, { "pek_csr", SEV_PEK_CSR }, { "pdh_gen", SEV_PDH_GEN },
		{ "pdh_cert_export", SEV_PDH_CERT_EXPORT }, { "get_id2", SEV_GET_ID2 },
	};

	random_keys = true;
	for (int a = 1; a < argc; a++) {
		size_t i;

		for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
			if (!strcmp(argv[a], commands[i].name))
				break;
		if (i == sizeof(commands) / sizeof(*commands)) {
			fprintf(stderr, "sev-ioctl: unknown command '%s'\n", argv[a]);
			return 2;
		}
		switch (commands[i].cmd) {
		case SEV_PLATFORM_STATUS:
			status();
			break;
		case SEV_PEK_CSR: {
			uint8_t *mem = buffer(CERT_LEN);

			csr("pek_csr", 2, ptr(mem), CERT_LEN, mem);
			break;
		}
		case SEV_PDH_CERT_EXPORT: {
			uint8_t *pdh = buffer(BLOB_MAX), *chain = buffer(BLOB_MAX);

			export("pdh_export", 2, ptr(pdh), CERT_LEN, ptr(chain), CHAIN_LEN, pdh, chain);
			break;
		}
		case SEV_GET_ID2: {
			uint8_t *mem = buffer(128);

			id2("get_id2", 2, ptr(mem), 128, mem);
			break;
		}
		default:
			call_end(commands[i].name, 2, commands[i].cmd, 0);
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR };

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < 3; i++) {
		fds[i] = open("/dev/sev", flags[i] | O_CLOEXEC);
		if (fds[i] < 0) {
			printf("open %s %s\n", modes[i], errno_name(errno));
			return 1;
		}
	}
	readonly_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	big = mmap(NULL, 4 * BLOB_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (readonly_page == MAP_FAILED || big == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	if (argc > 1)
		return one(argc, argv);

	/* As KVM left the platform, then after a reset has shut it down: then every call initialises it. */
	phase = "initialised: ";
	status();
	dispatch();
	get_id();
	pek_csr();
	pdh_cert_export();
	pek_cert_import();
	snp();
	generate();
	pek_csr();
	pdh_cert_export();
	factory_reset();
	phase = "shut down: ";
	dispatch();
	get_id();
	pek_csr();
	pdh_cert_export();
	pek_cert_import();
	generate();
	factory_reset();
	factory_reset();
	return 0;
}
