// SPDX-License-Identifier: GPL-2.0
/*
 * What calls of /dev/sev and of KVM's SEV API cost, for comparing one ccp.ko with another. One line
 * per measurement, KEY=VALUE after its name; times are in microseconds.
 *
 *   sev-bench                          PLATFORM_STATUS, one caller
 *   sev-bench --get-id                 the same with GET_ID
 *   sev-bench --callers 8 --seconds 5  PLATFORM_STATUS, each caller with a file of its own
 *   sev-bench --launch 16              LAUNCH_UPDATE_DATA of 16 MiB in pieces of 2 MiB, then of 4 KiB
 *
 * Instructions are those of the kernel on the caller's CPU, interrupts and idling included; they are
 * missing where nobody counts them (kernel-instructions.h).
 */
#define _GNU_SOURCE
#include "kernel-instructions.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/kvm.h>
#include <linux/psp-sev.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define HUGE_PAGE (2ul << 20)
#define MAX_CALLERS 64

/* What `calls` calls cost, one by one. `counted` is false when there are no instructions. */
struct costs {
	size_t calls, failed;
	int err; /* of the first that failed */
	bool counted;
	uint64_t *instructions, *ns;
};

static __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "sev-bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *allocate(size_t size)
{
	void *mem = calloc(1, size);

	if (!mem)
		die("memory");
	return mem;
}

static int open_sev(void)
{
	int fd = open("/dev/sev", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/sev");
	return fd;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static struct costs costs_of(size_t calls)
{
	struct costs costs = { .calls = calls };

	costs.instructions = allocate(calls * sizeof(uint64_t));
	costs.ns = allocate(calls * sizeof(uint64_t));
	return costs;
}

static void costs_free(struct costs *costs)
{
	free(costs->instructions);
	free(costs->ns);
}

/* Measures call number `i`. */
static void measure(struct costs *costs, size_t i, int fd, unsigned long request, void *argument)
{
	uint64_t before, after, start = now();
	int ret;

	costs->counted = kernel_instructions(&before);
	ret = ioctl(fd, request, argument);
	if (ret && !costs->failed++)
		costs->err = errno;
	kernel_instructions(&after);
	costs->ns[i] = now() - start;
	costs->instructions[i] = after - before;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Prints what was measured; `pages` is how many pages each call had, 0 when it is not about pages. */
static void print(const char *name, struct costs *costs, size_t pages)
{
	size_t n = costs->calls;

	qsort(costs->instructions, n, sizeof(uint64_t), ascending);
	qsort(costs->ns, n, sizeof(uint64_t), ascending);
	printf("%s calls=%zu failed=%zu", name, n, costs->failed);
	if (costs->failed)
		printf(" errno=%s", strerrorname_np(costs->err));
	if (costs->counted)
		printf(" instructions_min=%llu instructions_median=%llu",
		       (unsigned long long)costs->instructions[0], (unsigned long long)costs->instructions[n / 2]);
	if (costs->counted && pages)
		printf(" instructions_per_page=%.1f", (double)costs->instructions[n / 2] / pages);
	printf(" median_us=%.1f p99_us=%.1f\n", costs->ns[n / 2] / 1e3, costs->ns[(n - 1) * 99 / 100] / 1e3);
}

static void single_caller(const char *name, struct sev_issue_cmd *issue, size_t warm_up, size_t calls)
{
	struct costs costs = costs_of(calls), unmeasured = costs_of(1);
	int fd = open_sev();

	for (size_t i = 0; i < warm_up; i++)
		measure(&unmeasured, 0, fd, SEV_ISSUE_CMD, issue);
	for (size_t i = 0; i < calls; i++)
		measure(&costs, i, fd, SEV_ISSUE_CMD, issue);
	print(name, &costs, 0);
	costs_free(&costs);
	costs_free(&unmeasured);
	close(fd);
}

static void platform_status(size_t warm_up, size_t calls)
{
	struct sev_user_data_status status;
	struct sev_issue_cmd issue = { .cmd = SEV_PLATFORM_STATUS, .data = (uintptr_t)&status };

	single_caller("platform_status", &issue, warm_up, calls);
}

static void get_id(size_t warm_up, size_t calls)
{
	char id[128];
	struct sev_user_data_get_id2 argument = { .address = (uintptr_t)id, .length = sizeof(id) };
	struct sev_issue_cmd issue = { .cmd = SEV_GET_ID2, .data = (uintptr_t)&argument };

	single_caller("get_id", &issue, warm_up, calls);
}

struct caller {
	pthread_t thread;
	int fd;
	uint64_t calls, failed, ns;
};

static pthread_barrier_t ready;
static uint64_t duration_ns;

static void *call_for_a_while(void *argument)
{
	struct caller *caller = argument;
	struct sev_user_data_status status;
	struct sev_issue_cmd issue = { .cmd = SEV_PLATFORM_STATUS, .data = (uintptr_t)&status };
	uint64_t start, end;

	pthread_barrier_wait(&ready);
	start = now();
	do {
		caller->failed += ioctl(caller->fd, SEV_ISSUE_CMD, &issue) != 0;
		caller->calls++;
		end = now();
	} while (end - start < duration_ns);
	caller->ns = end - start;
	return NULL;
}

static int by_mean(const void *a, const void *b)
{
	const struct caller *x = a, *y = b;
	double mean_x = (double)x->ns / x->calls, mean_y = (double)y->ns / y->calls;

	return (mean_x > mean_y) - (mean_x < mean_y);
}

static void many_callers(size_t n, size_t seconds)
{
	struct caller callers[MAX_CALLERS] = { 0 };
	uint64_t calls = 0, failed = 0;

	duration_ns = seconds * 1000000000ull;
	pthread_barrier_init(&ready, NULL, n);
	for (size_t i = 0; i < n; i++) {
		callers[i].fd = open_sev();
		errno = pthread_create(&callers[i].thread, NULL, call_for_a_while, &callers[i]);
		if (errno)
			die("thread");
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(callers[i].thread, NULL);
	for (size_t i = 0; i < n; i++) {
		printf("caller number=%zu calls=%llu mean_us=%.1f\n", i + 1, (unsigned long long)callers[i].calls,
		       callers[i].ns / 1e3 / callers[i].calls);
		calls += callers[i].calls;
		failed += callers[i].failed;
		close(callers[i].fd);
	}
	qsort(callers, n, sizeof(*callers), by_mean);
	printf("callers number=%zu calls=%llu failed=%llu calls_per_second=%.0f slowest_to_median=%.3f\n", n,
	       (unsigned long long)calls, (unsigned long long)failed, (double)calls / seconds,
	       (double)callers[n - 1].ns / callers[n - 1].calls * callers[n / 2].calls / callers[n / 2].ns);
}

static void sev_op(int vm, int sev, uint32_t id, void *data, const char *name)
{
	struct kvm_sev_cmd cmd = { .id = id, .data = (uintptr_t)data, .sev_fd = sev };

	if (ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd)) {
		fprintf(stderr, "sev-bench: %s: firmware status %#x\n", name, cmd.error);
		die(name);
	}
}

/* Launches a guest of `size` bytes, handed over in pieces of `piece` bytes. */
static void launch(size_t size, size_t piece, const char *name)
{
	int sev = open_sev(), kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	struct kvm_sev_launch_start start = { 0 };
	struct kvm_sev_init init = { 0 };
	/* Room to begin where a huge page does: then a piece is contiguous, and one command of the firmware. */
	char *room = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *mem = (char *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	struct kvm_userspace_memory_region region = { .memory_size = size, .userspace_addr = (uintptr_t)mem };
	struct kvm_enc_region pinned = { .addr = (uintptr_t)mem, .size = size };
	struct costs costs = costs_of(size / piece);

	if (kvm < 0)
		die("/dev/kvm");
	if (room == MAP_FAILED)
		die("the guest's memory");
	madvise(mem, size, MADV_HUGEPAGE);
	memset(mem, 0x5a, size);
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_SEV_VM);
	if (vm < 0)
		die("KVM_CREATE_VM");
	sev_op(vm, sev, KVM_SEV_INIT2, &init, "KVM_SEV_INIT2");
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) || ioctl(vm, KVM_MEMORY_ENCRYPT_REG_REGION, &pinned))
		die("the guest's memory");
	sev_op(vm, sev, KVM_SEV_LAUNCH_START, &start, "KVM_SEV_LAUNCH_START");
	for (size_t i = 0; i < costs.calls; i++) {
		struct kvm_sev_launch_update_data update = { .uaddr = (uintptr_t)mem + i * piece, .len = piece };
		struct kvm_sev_cmd cmd = {
			.id = KVM_SEV_LAUNCH_UPDATE_DATA, .data = (uintptr_t)&update, .sev_fd = sev,
		};

		measure(&costs, i, vm, KVM_MEMORY_ENCRYPT_OP, &cmd);
	}
	print(name, &costs, piece / PAGE);
	costs_free(&costs);
	close(vm);
	close(kvm);
	close(sev);
	munmap(room, size + HUGE_PAGE);
}

static void pin_to_first_cpu(void)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first))
		die("the first CPU");
}

static size_t number(const char *text, size_t low, size_t high)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || end == text || value < low || value > high) {
		fprintf(stderr, "sev-bench: %s is no number between %zu and %zu\n", text, low, high);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'n' },	{ "warm-up", required_argument, NULL, 'w' },
		{ "get-id", no_argument, NULL, 'i' },		{ "callers", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 's' },	{ "launch", required_argument, NULL, 'l' },
		{ 0 },
	};
	size_t calls = 500, warm_up = 50, callers = 0, seconds = 5, launch_mib = 0;
	bool id = false;
	int option;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			calls = number(optarg, 1, 1000000);
			break;
		case 'w':
			warm_up = number(optarg, 0, 1000000);
			break;
		case 'i':
			id = true;
			break;
		case 'c':
			callers = number(optarg, 1, MAX_CALLERS);
			break;
		case 's':
			seconds = number(optarg, 1, 3600);
			break;
		case 'l':
			launch_mib = number(optarg, 2, 1024) & ~1ul;
			break;
		default:
			return 2;
		}
	}
	if (callers) {
		many_callers(callers, seconds);
		return 0;
	}
	pin_to_first_cpu();
	if (launch_mib) {
		launch(launch_mib << 20, HUGE_PAGE, "launch_update_data_2m");
		launch(launch_mib << 20, PAGE, "launch_update_data_4k");
	} else if (id) {
		get_id(warm_up, calls);
	} else {
		platform_status(warm_up, calls);
	}
	return 0;
}
