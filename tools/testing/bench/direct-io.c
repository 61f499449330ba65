// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel executes for a direct read or write of a disk: `direct-io DEVICE read|write SIZE CALLS`.
 * Prints a line with KEY=VALUE. Bytes are all that were moved, with those of calls that do not count;
 * instructions are those of `tools/lab run --count-instructions`.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel-instructions.h"

#define WARM_UP 8

static int ascending(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
	cpu_set_t first;
	int writes, fd;
	size_t size, calls;
	uint64_t *counts, before, after;
	void *buffer;

	if (argc != 5 || (strcmp(argv[2], "read") && strcmp(argv[2], "write")))
		errx(2, "usage: direct-io DEVICE read|write SIZE CALLS");
	writes = !strcmp(argv[2], "write");
	size = strtoul(argv[3], NULL, 0);
	calls = strtoul(argv[4], NULL, 0);
	if (!size || size % 4096 || !calls)
		errx(2, "SIZE is a multiple of 4096, CALLS is not 0");
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first))
		err(1, "cannot stay on one CPU");
	fd = open(argv[1], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	if (fd < 0)
		err(1, "%s", argv[1]);
	counts = calloc(calls, sizeof(*counts));
	buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!counts || buffer == MAP_FAILED)
		err(1, "no memory");
	memset(buffer, 0x5a, size);
	for (size_t call = 0; call < calls + WARM_UP; call++) {
		off_t offset = call * size;
		ssize_t moved;

		if (!kernel_instructions(&before))
			errx(1, "nobody counts instructions");
		moved = writes ? pwrite(fd, buffer, size, offset) : pread(fd, buffer, size, offset);
		kernel_instructions(&after);
		if (moved != (ssize_t)size)
			err(1, "%s at %lld", argv[2], (long long)offset);
		if (call >= WARM_UP)
			counts[call - WARM_UP] = after - before;
	}
	qsort(counts, calls, sizeof(*counts), ascending);
	printf("%s size=%zu calls=%zu bytes=%zu instructions_min=%llu instructions_median=%llu\n",
	       argv[2], size, calls, (calls + WARM_UP) * size,
	       (unsigned long long)counts[0], (unsigned long long)counts[calls / 2]);
	return 0;
}
