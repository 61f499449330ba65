# SPDX-License-Identifier: GPL-2.0
"""What it costs to share 2 MiB with the host: the module sev_flip_bench in a SEV guest, and a table of what it says."""

import re
import statistics
from typing import NamedTuple

from .errors import LabError

LINE = re.compile(r"sev_flip_bench: way=(\w+) instructions=(\d+) ns=(\d+)")

TITLES = {
    "unit": "one SharedPages of 2 MiB",
    "pages": "512 SharedPages of 4 KiB",
    "range": "set_memory_decrypted() of 2 MiB",
    "stock": "set_memory_decrypted() page by page",
    "unit_in_pieces": "2 MiB that single flips had split",
}


class Flip(NamedTuple):
    """One measurement."""

    instructions: int
    ns: int


# Without these flags the kernel fills memory by words. With them emulation does it byte by byte, which takes more time than the flip;
# hardware does it at once.
QUICK_TO_FILL = ("--cpu-without", "erms,fsrm")


def measured(context):
    """Lists of `Flip`s by their way: instructions of a VM that counts them, times of one that is quick to fill memory."""
    counts, times = counted(context), _run(context, *QUICK_TO_FILL)
    return {way: [Flip(count.instructions, time.ns) for count, time in zip(counts[way], times[way])] for way in TITLES}


def counted(context):
    """The same without times."""
    return _run(context, "--count-instructions")


def _run(context, *options):
    script = "taskset -c 0 modprobe sev_flip_bench && dmesg"
    result = context.lab("run", "--role", "guest", *options, "--", "sh", "-c", script)
    found = {}
    for way, instructions, ns in LINE.findall(result.stdout.decode(errors="replace")):
        found.setdefault(way, []).append(Flip(int(instructions), int(ns)))
    if result.returncode or set(found) != set(TITLES):
        raise LabError(f"sev_flip_bench: status {result.returncode}, {sorted(found)}\n{result.stderr.decode()}")
    return found


def table(found):
    """The medians as lines of text, and how many times the first way's they are."""
    medians = {way: [statistics.median(figures) for figures in zip(*found[way])] for way in TITLES}
    width = max(map(len, TITLES.values()))
    lines = [f"{'sharing 2 MiB with the host':{width}}  {'instructions':>12}  {'times':>6}  {'us':>8}  {'times':>6}"]
    for way, title in TITLES.items():
        (instructions, ns), (first, first_ns) = medians[way], medians["unit"]
        lines.append(f"{title:{width}}  {instructions:12.0f}  {instructions / first:6.1f}  {ns / 1000:8.0f}  {ns / first_ns:6.1f}")
    return "\n".join(lines)
