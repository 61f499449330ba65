// SPDX-License-Identifier: GPL-2.0
#include "storm.h"

#include "answers.h"
#include "guest.h"
#include "life.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 64
/* TIMEOUT: guests of processes that are gone end with them; but the device may be away, and KVM hold on a moment. */
#define EMPTY_MS 20000
/* The longest time between two kills, in milliseconds: a few lives of a guest under emulation. */
#define KILL_MS 30

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static void sleep_ms(uint32_t ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

/* A process that launches guests, or calls, until `end`. */
static pid_t start(bool launcher, uint64_t seed, uint64_t end)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Any state but zero will do for xorshift. */
	struct chance chance = { .state = seed * 2 + 1 };

	while (now_ms() < end)
		if (launcher)
			live(&chance);
		else
			call(&chance);
	_exit(0);
}

static bool number(const char *text, uint64_t limit, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && end != text && !*end && *value <= limit;
}

int storm(int argc, char **argv)
{
	uint64_t seed, seconds, launchers, callers;
	pid_t pids[2 * PROCESSES_MAX];
	unsigned int killed = 0;

	if (argc != 6 || !number(argv[1], UINT64_MAX, &seed) || !number(argv[2], 100000, &seconds) ||
	    !number(argv[3], PROCESSES_MAX, &launchers) || !number(argv[4], PROCESSES_MAX, &callers) ||
	    (strcmp(argv[5], "kill") && strcmp(argv[5], "let"))) {
		fprintf(stderr, "sev-kvm: usage: sev-kvm storm SEED SECONDS LAUNCHERS CALLERS kill|let\n");
		return 2;
	}
	if (!answers_open() || !lives_prepare()) {
		perror("sev-kvm: storm");
		return 1;
	}
	uint64_t processes = launchers + callers, end = now_ms() + seconds * 1000, turns = 0;
	struct chance chance = { .state = seed * 2 + 1 };

	for (uint64_t i = 0; i < processes; i++)
		pids[i] = start(i < launchers, seed + ++turns, end);
	printf("started with seed %llu\n", (unsigned long long)seed);
	while (!strcmp(argv[5], "kill") && now_ms() < end) {
		uint32_t victim = chance_below(&chance, processes);

		sleep_ms(chance_below(&chance, KILL_MS));
		if (kill(pids[victim], SIGKILL) || waitpid(pids[victim], NULL, 0) != pids[victim]) {
			perror("sev-kvm: kill");
			return 1;
		}
		killed++;
		pids[victim] = start(victim < launchers, seed + ++turns, end);
	}
	for (uint64_t i = 0; i < processes; i++) {
		int status = 0;

		if (waitpid(pids[i], &status, 0) != pids[i] || status) {
			fprintf(stderr, "sev-kvm: a process ended with %#x\n", status);
			return 1;
		}
	}
	answers_print();
	printf("killed %u\n", killed);
	for (end = now_ms() + EMPTY_MS; guest_count() && now_ms() < end;)
		sleep_ms(100);
	say_count("afterwards");
	return 0;
}
