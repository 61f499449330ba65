# SPDX-License-Identifier: GPL-2.0
"""The measuring tools themselves: that they count what they say they count."""

import json
from types import SimpleNamespace

from lab import bench, dma_bench, dma_table, flips, plots
from lab.clients import dma_bench as dma_programs, sev_bench
from lab.paths import CHECKOUT
from lab.suites import contains, equal

KERNELS = ("kunit",)
QUICK = ("run", "--kernel", "kunit", "--smp", "1")

# The fewest instructions the kernel needs for no, one and ten system calls: the fewest, because an interrupt may come.
COUNT = """#include "kernel-instructions.h"
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static uint64_t fewest(int calls)
{
	uint64_t best = -1ull, before, after;
	for (int i = 0; i < 200; i++) {
		kernel_instructions(&before);
		for (volatile int work = 0; work < 1000; work++) {}
		for (int n = 0; n < calls; n++)
			syscall(SYS_getpid);
		kernel_instructions(&after);
		best = after - before < best ? after - before : best;
	}
	return best;
}
int main(void)
{
	uint64_t count;
	if (kernel_instructions(&count))
		printf("%d %ld %ld %ld\\n", count > 1000000, (long)fewest(0), (long)fewest(1), (long)fewest(10));
	else
		puts("nobody counts");
}
"""


def _count(context, *options):
    share = context.directory / "share"
    if not share.exists():
        share.mkdir()
        (share / "count.c").write_text(COUNT)
        context.output("gcc", "-O2", f"-I{CHECKOUT}/tools/testing/bench", "-o", share / "count", share / "count.c",
                       binds=[(share, share, False)])
    result = context.lab(*QUICK, "--driver", "none", *options, "--share", share, "--", "/mnt/share/count")
    equal(result.returncode, 0, f"status: {result.stderr}")
    return result.stdout.decode().strip()


def test_a_program_can_ask_what_the_kernel_has_executed(context):
    booted, none, one, ten = map(int, _count(context, "--count-instructions").split())
    equal((booted, none, ten), (1, 0, 10 * one), "a million while booting, none by programs, ten times one system call")
    equal(one > 20, True, f"a system call has more than {one} instructions")


def test_kernels_without_sev_are_counted_too(context):
    booted, none, one, ten = map(int, _count(context, "--role", "plain", "--count-instructions").split())
    equal((booted, none, ten), (1, 0, 10 * one), "a million while booting, none by programs, ten times one system call")


def test_nobody_counts_when_not_asked_to(context):
    equal(_count(context), "nobody counts", "the answer to CPUID")


def test_sev_bench_measures_calls_callers_and_launches(context):
    share = sev_bench(context)
    script = """
        cd /mnt/share && ./sev-bench --calls 20 --warm-up 2 && ./sev-bench --get-id --calls 1 --warm-up 0 &&
        ./sev-bench --callers 3 --seconds 1 && ./sev-bench --launch 2"""
    result = context.lab("run", "--smp", "1", "--count-instructions", "--fault", "status:0x3:GET_ID", "--memory", "plain",
                         "--share", share, "--", "sh", "-c", script)
    equal(result.returncode, 0, f"status: {result.stderr}")
    lines = [bench.values(line) for line in result.stdout.decode().splitlines()]
    equal([line["name"] for line in lines],
          ["platform_status", "get_id", "caller", "caller", "caller", "callers", "launch_update_data_2m", "launch_update_data_4k"],
          "measurements")
    status, get_id, *_, callers, large, small = lines
    equal((status["calls"], status["failed"], get_id["failed"], get_id["errno"]), (20, 0, 1, "EIO"), "calls and failures")
    equal(0 < status["instructions_min"] <= status["instructions_median"], True, f"instructions: {status}")
    equal(sum(line["calls"] for line in lines[2:5]), callers["calls"], "calls of all callers")
    equal((large["calls"], small["calls"]), (1, 512), "commands for 2 MiB in one piece and in pages")
    # A command has its price, which a large piece pays once.
    equal(large["instructions_per_page"] < small["instructions_per_page"], True, f"{large} and {small}")


def test_sev_bench_refuses_numbers_that_are_none(context):
    share = sev_bench(context)
    result = context.lab(*QUICK, "--share", share, "--", "/mnt/share/sev-bench", "--calls", "5x")
    equal(result.returncode, 2, "status")
    contains(result.stderr, b"5x is no number", "the message")


def test_a_round_has_a_figure_for_every_line_of_the_table(context):
    share = sev_bench(context)
    for driver, missing in (("rust", set()), ("upstream", {"mmio_poll"})):
        figures = bench.measured(context, share, driver, "--kernel", "kunit")
        equal({row.key for row in bench.ROWS} - set(figures), missing, f"lines without a figure of {driver}")
        numbers = {key: value for key, value in figures.items() if not isinstance(value, str)}
        equal([key for key, value in numbers.items() if not value > 0], [], f"figures of {driver} that are not above zero")
        equal(figures["lost_answer"], {"rust": "OK", "upstream": "ETIMEDOUT"}[driver], f"{driver} and a lost interrupt")


def test_the_table_has_both_drivers_and_their_ratio(context):
    figures = {"rust": {"mmio": 6.0, "lost_answer": "OK", "mmio_poll": 4.0}, "upstream": {"mmio": 8.0, "lost_answer": "EBUSY"}}
    lines = [line.split() for line in bench.table(figures).splitlines()]
    equal(lines[0], ["ours", "upstream", "ratio"], "the heading")
    found = {" ".join(line[:-3]): line[-3:] for line in lines[1:]}
    equal(found["PLATFORM_STATUS, MMIO accesses"], ["6", "8", "0.75"], "numbers")
    equal(found["PLATFORM_STATUS, MMIO accesses with psp_poll=1"], ["4", "-", "-"], "a number of one driver alone")
    equal(found["its answer"], ["OK", "EBUSY", "-"], "words")


def test_figures_of_several_rounds_become_one(context):
    equal((bench.middle([3.0, 1.0, 2.0]), bench.middle(["OK", "OK"]), bench.middle(["OK", "EBUSY"])), (2.0, "OK", "EBUSY/OK"),
          "numbers, words that agree, words that do not")


def test_accesses_are_those_of_whole_rounds(context):
    def command(name, accesses):
        return json.dumps({"event": "command", "name": name, "reads": accesses, "writes": 1})

    trace = [json.dumps({"event": "connect"}), command("INIT", 90), command("PLATFORM_STATUS", 50),
             *[command("PLATFORM_STATUS", 5)] * 3, command("GET_ID", 70), command("PLATFORM_STATUS", 80)]
    equal(bench.accesses("\n".join(trace)), 6, "those between two PLATFORM_STATUS")


def _dma(context, name, script, *options):
    result = context.lab("run", *dma_bench.CONFIGURATIONS[name], "--kernel", "kunit", "--smp", "1", "--disk", "null:1G", *options,
                         "--", "sh", "-c", script)
    equal(result.returncode, 0, f"status: {result.stderr}")
    return result.stdout.decode()


def test_times_of_flips_are_not_those_of_filling_memory(context):
    def lab(*arguments):
        # As a VM with and one without these flags.
        instructions, ns = (0, 2000) if "erms,fsrm" in arguments else (100, 9000)
        lines = [f"sev_flip_bench: way={way} instructions={instructions} ns={ns}" for way in flips.TITLES]
        return SimpleNamespace(returncode=0, stdout="\n".join(lines).encode(), stderr=b"")
    equal(flips.measured(SimpleNamespace(lab=lab)), {way: [flips.Flip(100, 2000)] for way in flips.TITLES}, "figures")


def test_direct_io_counts_what_copies_cost(context):
    """A guest copies once when it writes and, with the kernel's bounce buffers, twice when it reads; others do not."""
    share = dma_programs(context)
    script = "for how in read write; do for size in 4096 0x100000; do /mnt/share/direct-io /dev/vda $how $size 20 || exit; done; done"
    found = {}
    for name in ("none", "swiotlb"):
        lines = _dma(context, name, script, "--share", share, "--count-instructions", "--cpu-without", "erms,fsrm").splitlines()
        found[name] = [bench.values(line) for line in lines]
        equal([(line["name"], line["size"], line["calls"], line["bytes"]) for line in found[name]],
              [(how, size, 20, 28 * size) for how in ("read", "write") for size in (4096, 1 << 20)], "what was moved")
    (_, read, _, write), (_, copied_read, _, copied_write) = ([line["instructions_min"] for line in found[name]] for name in found)
    # memcpy() moves at most 8 bytes with an instruction.
    words = (1 << 20) // 8
    equal((copied_read - read > 2 * words, copied_write - write > words), (True, True), f"copies: {found}")
    result = context.lab("run", *dma_bench.CONFIGURATIONS["none"], "--kernel", "kunit", "--smp", "1", "--disk", "null:1M", "--share", share,
                         "--", "/mnt/share/direct-io", "/dev/vda", "read", "100", "1")
    equal((result.returncode, b"SIZE is a multiple" in result.stderr), (2, True), "a size that is none")


def test_mappings_are_measured_without_their_copies(context):
    figures = dma_bench.mapped(context, "--kernel", "kunit")
    maps = [figures["swiotlb"][f"map.{size}"] for size in (4096, 65536, 1048576)]
    # More bytes take more slots, but their copies would be 200000 instructions for 1 MiB.
    equal(500 < maps[0] < maps[1] < maps[2] < 100000, True, f"instructions: {maps}")
    # Counts are exact, so a goal can be a test: what a request needs while 31 others are under way.
    equal(figures["shim"]["map.request"] < figures["swiotlb"]["map.request"] / 2, True, f"a request: {figures}")
    equal(figures["swiotlb"]["two_cpus"] > 0, True, f"two CPUs: {figures}")


def test_dma_has_a_figure_for_every_line_of_the_table(context):
    share = dma_programs(context)
    quick = ("--kernel", "kunit")
    for name, missing in (("none", {"map", "two_cpus", "copied", "flips"}), ("swiotlb", {"map", "two_cpus", "copied", "flips"})):
        figures = dma_bench.timed(context, share, name, False, *quick) | dma_bench.counted(context, share, name, *quick)
        equal({line.key.split(".")[0] for line in dma_table.LINES} - {key.split(".")[0] for key in figures}, missing, f"no figure of {name}")
        equal([key for key, value in figures.items() if not value > 0 and key != "losses"], [], f"figures of {name} that are not above zero")
    equal(figures["segment"], 256 << 10, "the largest mapping of the kernel's bounce buffers")


def test_the_table_of_dma_says_which_goals_are_met(context):
    medians = {"none": {"best.read": 1000.0, "disk.read.64k.1.1": 5.0}, "swiotlb": {"instructions.read": 100, "instructions.write": 100},
               "shim": {"instructions.read": 65, "instructions.write": 96, "best.read": 600.0, "segment": 4 << 20, "flips": 1}}
    rows = {row[0]: row[1:] for row in dma_table.rows(medians)}
    equal(rows["direct read of 1 MiB, instructions"], ("-", "100", "65", "0.65", "-", ": swiotlb <= 0.65", "yes"), "a ratio that is met")
    equal(rows["direct write of 1 MiB, instructions"][-1], "NO", "one that is not")
    equal(rows["best read throughput, MiB/s"], ("1000", "-", "600", "-", "0.60", ": none >= 0.55", "yes"), "a ratio to no encryption")
    equal(rows["largest mapping, KiB"][2:], ("4096", "-", "-", ">= 4096", "yes"), "a figure with a unit")
    equal(rows["flips per gigabyte"][-1], "NO", "one flip too many")
    equal(rows["bytes copied per byte read"][-1], "-", "a figure that there is not")
    equal(rows["disk.read.64k.1.1"], ("5", "-", "-", "-", "-", "", ""), "a figure without a line of its own")
    equal(len(dma_table.text(dma_table.rows(medians)).splitlines()), len(rows), "lines of text")


def test_results_are_drawn(context):
    figures = {name: {"disk.read.1m.1.1": [1.0, 2.0], "iops.randread.4k.1.1": [3.0], "instructions.read": [4.0]} for name in plots.CONFIGURATIONS}
    results = context.directory / "results.json"
    results.write_text(json.dumps({"figures": figures}))
    plots.draw(context.root, results, context.directory)
    for name in ("throughput", "requests", "instructions"):
        equal((context.directory / f"dma-{name}.png").read_bytes()[:4], b"\x89PNG", f"the beginning of {name}.png")
        contains((context.directory / f"dma-{name}.svg").read_text(), "<svg", f"{name}.svg")
