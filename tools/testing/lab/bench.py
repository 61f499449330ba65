# SPDX-License-Identifier: GPL-2.0
"""`lab bench`: our ccp.ko and upstream's under the same emulated PSP, one after the other, and a table of what they cost; then
the guest helper's flips, and its DMA (dma_bench.py).

Every figure is the median of some rounds. In a round each driver gets the same VMs; who comes first changes from round
to round.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass

from . import clients, dma_bench, flips
from .errors import LabError
from .suites import Context

TABLES = ("psp", "flips", "dma")
ROUNDS = 3
# Times are most of that table, and they vary most.
DMA_ROUNDS = 7

DRIVERS = ("rust", "upstream")
CALLERS = 8
CALLERS_SECONDS = 5
LAUNCH_MIB = 16

# Instructions and accesses are counted on one CPU with a PSP that answers at once: then they hardly change from run to run.
COUNTED = ("--smp", "1", "--memory", "plain")
# Times need a PSP that takes its time, as hardware does.
TIMED = ("--smp", "2", "--latency", "hardware")
# TIMEOUT: what upstream's driver waits for an interrupt that is lost, in seconds. By default it is 100.
LOST = ("--smp", "1", "--fault", "lost-irq:GET_ID:1", "--module-param", "ccp.psp_cmd_timeout=1")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    key: str
    title: str
    digits: int = 0


ROWS = (
    Row("status_instructions", "PLATFORM_STATUS, kernel instructions (median)"),
    Row("status_fewest", "PLATFORM_STATUS, kernel instructions (fewest)"),
    Row("launch_2m", "LAUNCH_UPDATE_DATA in 2 MiB, instructions per 4 KiB page", 1),
    Row("launch_4k", "LAUNCH_UPDATE_DATA in 4 KiB, instructions per 4 KiB page", 1),
    Row("mmio", "PLATFORM_STATUS, MMIO accesses"),
    Row("mmio_poll", "PLATFORM_STATUS, MMIO accesses with psp_poll=1"),
    Row("status_us", "PLATFORM_STATUS, microseconds (median)", 1),
    Row("status_p99_us", "PLATFORM_STATUS, microseconds (99th percentile)", 1),
    Row("calls_per_second", f"{CALLERS} callers, calls per second"),
    Row("slowest_to_median", f"{CALLERS} callers, slowest / median", 3),
    Row("lost_ms", "GET_ID whose interrupt is lost, milliseconds", 1),
    Row("lost_answer", "  its answer"),
    Row("next_answer", "  the answer of the PLATFORM_STATUS after it"),
)


def run(root, tables, rounds, full, directory):
    """Measure and print some of TABLES; the exit status. `full` and the directory for results are dma_bench's."""
    if "psp" in tables:
        _drivers(root, rounds or ROUNDS)
    if "flips" in tables:
        _flips(root)
    if "dma" in tables:
        return dma_bench.run(root, rounds or DMA_ROUNDS, full, directory)
    return 0


def _drivers(root, rounds):
    figures = {driver: {} for driver in DRIVERS}
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as directory:
        context = Context(root, directory)
        share = clients.sev_bench(context)
        for number in range(rounds):
            for driver in DRIVERS if number % 2 else reversed(DRIVERS):
                print(f"lab: round {number + 1} of {rounds}: {driver}", file=sys.stderr, flush=True)
                for key, value in measured(context, share, driver).items():
                    figures[driver].setdefault(key, []).append(value)
    print(table({driver: {key: middle(values) for key, values in own.items()} for driver, own in figures.items()}) + "\n")


def _flips(root):
    print("lab: the guest helper", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as directory:
        print(flips.table(flips.measured(Context(root, directory))) + "\n")


def middle(values):
    """The median of numbers; of words the one that all rounds agree on, or all that occurred."""
    if isinstance(values[0], str):
        return "/".join(sorted(set(values)))
    return statistics.median(values)


def table(figures):
    """The figures of both drivers as lines of text; a figure that a driver does not have is a dash."""
    ours, theirs = figures["rust"], figures["upstream"]
    width = max(len(row.title) for row in ROWS)
    lines = [f"{'':{width}}  {'ours':>10}  {'upstream':>10}  {'ratio':>6}"]
    for row in ROWS:
        own, other = ours.get(row.key), theirs.get(row.key)
        ratio = f"{own / other:.2f}" if isinstance(own, (int, float)) and other else "-"
        lines.append(f"{row.title:{width}}  {_text(own, row):>10}  {_text(other, row):>10}  {ratio:>6}")
    return "\n".join(lines)


def _text(value, row):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.{row.digits}f}"


def measured(context, share, driver, *options):
    """One round of one driver: figures by the keys of ROWS. `options` are more options for the VMs."""
    trace = context.directory / "trace"
    figures = {}

    def sev_bench(invocations, *more):
        return _sev_bench(context, share, driver, invocations, *options, *more)

    status, large, small = sev_bench(["", f"--launch {LAUNCH_MIB}"], "--count-instructions", *COUNTED)
    figures["status_instructions"], figures["status_fewest"] = status["instructions_median"], status["instructions_min"]
    figures["launch_2m"], figures["launch_4k"] = large["instructions_per_page"], small["instructions_per_page"]

    sev_bench([""], "--trace", trace, *COUNTED)
    figures["mmio"] = accesses(trace.read_text())
    if driver == "rust":  # upstream's polls only while the kernel panics
        sev_bench([""], "--trace", trace, "--module-param", "ccp.psp_poll=1", *COUNTED)
        figures["mmio_poll"] = accesses(trace.read_text())

    many = f"--callers {CALLERS} --seconds {CALLERS_SECONDS}"
    status, *_, callers = sev_bench(["", many], *TIMED)
    figures["status_us"], figures["status_p99_us"] = status["median_us"], status["p99_us"]
    figures["calls_per_second"], figures["slowest_to_median"] = callers["calls_per_second"], callers["slowest_to_median"]

    lost, after = sev_bench(["--warm-up 0 --calls 1 --get-id", "--warm-up 0 --calls 1"], *LOST)
    figures["lost_ms"] = lost["median_us"] / 1000
    figures["lost_answer"], figures["next_answer"] = (line.get("errno", "OK") for line in (lost, after))
    return figures


def accesses(trace):
    """MMIO accesses of a PLATFORM_STATUS that follows another, so that its count is one whole round."""
    commands = [line for line in map(json.loads, trace.splitlines()) if line["event"] == "command"]
    counts = [line["reads"] + line["writes"] for before, line in zip(commands, commands[1:])
              if before["name"] == line["name"] == "PLATFORM_STATUS"]
    return statistics.median(counts)


def _sev_bench(context, share, driver, invocations, *options):
    """The lines that sev-bench prints in one VM, as dicts."""
    script = " && ".join(f"/mnt/share/sev-bench {arguments}" for arguments in invocations)
    result = context.lab("run", "--driver", driver, "--share", share, *options, "--", "sh", "-c", script)
    if result.returncode:
        raise LabError(f"sev-bench with {driver}: status {result.returncode}\n{result.stderr.decode()}")
    return [values(line) for line in result.stdout.decode().splitlines()]


def values(line):
    """A line of sev-bench: numbers as such, everything else as words."""
    name, *pairs = line.split()
    return {"name": name, **{key: _number(value) for key, value in (pair.split("=", 1) for pair in pairs)}}


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text
