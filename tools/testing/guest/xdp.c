// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a command while a program of XDP is attached to an interface, then says what that program did and
 * what the command's status was: `xdp INTERFACE pass|drop|turn [generic] [frags] -- COMMAND [ARG]...`.
 *
 * "pass" and "drop" are for all frames; "turn" sends those of the first Ethernet type for local experiments
 * back where they came from, with the second one as a mark, and passes all others on. "generic" has the
 * network stack run it instead of the driver; "frags" says that it can do with frames in several buffers.
 * Prints how many frames were passed on, dropped, or turned.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* For local experiments (IEEE 802); reflected.py sends the first. */
#define EXPERIMENT 0x88b5
#define EXPERIMENT_TURNED 0x88b6

#define MOST_INSTRUCTIONS 64

struct program {
	struct bpf_insn code[MOST_INSTRUCTIONS];
	size_t length;
};

static int bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static void emit(struct program *program, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	if (program->length == MOST_INSTRUCTIONS)
		errx(1, "the program is too long");
	program->code[program->length++] = (struct bpf_insn) {
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm,
	};
}

/* Counts the frame in the only value of the map, and ends with a verdict. */
static void emit_verdict(struct program *program, int map, enum xdp_action verdict)
{
	emit(program, BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_VALUE, 0, map);
	emit(program, 0, 0, 0, 0, 0);
	emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, 1);
	emit(program, BPF_STX | BPF_DW | BPF_ATOMIC, BPF_REG_1, BPF_REG_2, 0, BPF_ADD);
	emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, verdict);
	emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Jumps to what comes after `turn`, which is to be filled in. */
static size_t emit_jump(struct program *program, uint8_t code, uint8_t dst, uint8_t src, int32_t imm)
{
	emit(program, BPF_JMP | code, dst, src, 0, imm);
	return program->length - 1;
}

static void emit_turn(struct program *program, int map)
{
	const uint8_t frame = BPF_REG_2, end = BPF_REG_3, one = BPF_REG_4, other = BPF_REG_5;
	size_t too_short, another;

	emit(program, BPF_LDX | BPF_W | BPF_MEM, frame, BPF_REG_1, offsetof(struct xdp_md, data), 0);
	emit(program, BPF_LDX | BPF_W | BPF_MEM, end, BPF_REG_1, offsetof(struct xdp_md, data_end), 0);
	emit(program, BPF_ALU64 | BPF_MOV | BPF_X, one, frame, 0, 0);
	emit(program, BPF_ALU64 | BPF_ADD | BPF_K, one, 0, 0, ETH_HLEN);
	too_short = emit_jump(program, BPF_JGT | BPF_X, one, end, 0);
	emit(program, BPF_LDX | BPF_H | BPF_MEM, one, frame, offsetof(struct ethhdr, h_proto), 0);
	another = emit_jump(program, BPF_JNE | BPF_K, one, 0, htons(EXPERIMENT));
	for (int at = 0; at < ETH_ALEN; at += 2) {
		emit(program, BPF_LDX | BPF_H | BPF_MEM, one, frame, at, 0);
		emit(program, BPF_LDX | BPF_H | BPF_MEM, other, frame, at + ETH_ALEN, 0);
		emit(program, BPF_STX | BPF_H | BPF_MEM, frame, one, at + ETH_ALEN, 0);
		emit(program, BPF_STX | BPF_H | BPF_MEM, frame, other, at, 0);
	}
	emit(program, BPF_ST | BPF_H | BPF_MEM, frame, 0, offsetof(struct ethhdr, h_proto), htons(EXPERIMENT_TURNED));
	emit_verdict(program, map, XDP_TX);
	program->code[too_short].off = program->length - too_short - 1;
	program->code[another].off = program->length - another - 1;
	emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, XDP_PASS);
	emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int new_counter(void)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = sizeof(uint32_t), .value_size = sizeof(uint64_t), .max_entries = 1,
	};
	int map = bpf(BPF_MAP_CREATE, &attributes);

	if (map < 0)
		err(1, "no counter");
	return map;
}

static uint64_t counted(int map)
{
	uint32_t key = 0;
	uint64_t value;
	union bpf_attr attributes = { .map_fd = map };

	attributes.key = (uintptr_t)&key;
	attributes.value = (uintptr_t)&value;
	if (bpf(BPF_MAP_LOOKUP_ELEM, &attributes))
		err(1, "cannot read the counter");
	return value;
}

static int load(const struct program *program, uint32_t flags)
{
	static char log[1 << 16];
	union bpf_attr attributes = {
		.prog_type = BPF_PROG_TYPE_XDP, .insns = (uintptr_t)program->code, .insn_cnt = program->length,
		.license = (uintptr_t)"GPL", .log_buf = (uintptr_t)log, .log_size = sizeof(log), .log_level = 1, .prog_flags = flags,
	};
	int fd = bpf(BPF_PROG_LOAD, &attributes);

	if (fd < 0)
		err(1, "the program is refused: %s", log);
	return fd;
}

static int attach(int program, const char *interface, uint32_t flags)
{
	union bpf_attr attributes = { 0 };
	int link;

	attributes.link_create.prog_fd = program;
	attributes.link_create.target_ifindex = if_nametoindex(interface);
	attributes.link_create.attach_type = BPF_XDP;
	attributes.link_create.flags = flags;
	link = bpf(BPF_LINK_CREATE, &attributes);
	if (link < 0)
		err(1, "%s", interface);
	return link;
}

static void detach(int link)
{
	union bpf_attr attributes = { 0 };

	attributes.link_detach.link_fd = link;
	if (bpf(BPF_LINK_DETACH, &attributes))
		err(1, "cannot detach");
}

static int run(char **command)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		err(1, "no process");
	if (!child) {
		execvp(command[0], command);
		err(127, "%s", command[0]);
	}
	if (waitpid(child, &status, 0) < 0)
		err(1, "where is it");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	static const char usage[] = "usage: xdp INTERFACE pass|drop|turn [generic] [frags] -- COMMAND [ARG]...";
	uint32_t mode = XDP_FLAGS_DRV_MODE, flags = 0;
	struct program program = { .length = 0 };
	int at, map, link, status;
	const char *what;

	if (argc < 5)
		errx(2, usage);
	map = new_counter();
	if (!strcmp(argv[2], "pass")) {
		emit_verdict(&program, map, XDP_PASS);
		what = "passed on";
	} else if (!strcmp(argv[2], "drop")) {
		emit_verdict(&program, map, XDP_DROP);
		what = "dropped";
	} else if (!strcmp(argv[2], "turn")) {
		emit_turn(&program, map);
		what = "turned";
	} else {
		errx(2, usage);
	}
	for (at = 3; at < argc && strcmp(argv[at], "--"); at++) {
		if (!strcmp(argv[at], "generic"))
			mode = XDP_FLAGS_SKB_MODE;
		else if (!strcmp(argv[at], "frags"))
			flags = BPF_F_XDP_HAS_FRAGS;
		else
			errx(2, usage);
	}
	if (at + 1 >= argc)
		errx(2, usage);
	link = attach(load(&program, flags), argv[1], mode);
	status = run(argv + at + 1);
	detach(link);
	printf("%llu frames %s\n", (unsigned long long)counted(map), what);
	return status;
}
