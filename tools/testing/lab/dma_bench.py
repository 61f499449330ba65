# SPDX-License-Identifier: GPL-2.0
"""What DMA costs without encryption, in a SEV guest with the kernel's bounce buffers, and in one with the guest helper.

The same kernel and the same processor in three configurations. Each round has one VM of each, and who comes first changes
from round to round. Figures are by the keys of dma_table.py; dma_bench.py in tools/testing/guest measures inside.
"""

import json
import re
import statistics
import sys
import tempfile

from . import clients, dma_table, plots, toolroot
from .errors import LabError
from .suites import Context

# Without erms and fsrm: emulation would copy byte by byte.
MACHINE = ("--kernel", "debian", "--model", "milan", "--mem", "2048", "--cpu-without", "erms,fsrm")
CONFIGURATIONS = {
    "none": ("--role", "plain", "--driver", "none"),
    "swiotlb": ("--role", "guest", "--driver", "none"),
    "shim": ("--role", "guest", "--driver", "rust"),
}
MTUS = ("1500", "65000")

# Counts hardly differ from round to round: no more than this.
MOST_COUNTED_ROUNDS = 3
CALLS = 512
GIGABYTE = 10**9

POOL = "/sys/kernel/debug/virtio_sev_shim/pool"
# What direct reads and writes cost, and what the pool says before, between and after.
COUNTED = f"""pool() {{ echo pool; cat {POOL} 2>/dev/null; true; }}
cd /mnt/share; pool; ./direct-io /dev/vda read 0x100000 {CALLS} || exit; pool; ./direct-io /dev/vda write 0x100000 {CALLS} || exit; pool
for how in read write; do ./direct-io /dev/vda $how 4096 {CALLS} || exit; done"""

MAPPED = re.compile(r"sev_dma_bench: way=(\w+) (?:cpus=(\d) size=(\d+)|request) instructions=(\d+) ns=(\d+)")


def run(root, rounds, full, directory):
    """Measure, print the table, and write JSON, table and plots to a directory; the exit status."""
    figures = {name: {} for name in CONFIGURATIONS}
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as temporary:
        context = Context(root, temporary)
        share = clients.dma_bench(context)
        for number in range(rounds):
            names = list(CONFIGURATIONS)
            for name in names[number % 3:] + names[:number % 3]:
                print(f"lab: DMA, round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                add(figures[name], timed(context, share, name, full))
                if number < MOST_COUNTED_ROUNDS:
                    add(figures[name], counted(context, share, name))
            if number < MOST_COUNTED_ROUNDS:
                for name, own in mapped(context).items():
                    add(figures[name], own)
    result = {"command": f"tools/lab bench dma --rounds {rounds}{' --full' if full else ''}", "rounds": rounds,
              "kernel": toolroot.linux_release(root), "machine": " ".join(MACHINE),
              "configurations": {name: " ".join(options) for name, options in CONFIGURATIONS.items()}, "figures": figures}
    medians = {name: {key: statistics.median(values) for key, values in own.items()} for name, own in figures.items()}
    rows = dma_table.rows(medians)
    print(dma_table.text(rows))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "dma-bench.json").write_text(json.dumps(result, indent=1))
    (directory / "dma-bench.rst").write_text(dma_table.rst(rows, result))
    plots.draw(root, directory / "dma-bench.json", directory)
    print(f"lab: JSON, table and plots are in {directory}", file=sys.stderr)
    return 0


def add(figures, more):
    """Append figures to lists of them."""
    for key, value in more.items():
        figures.setdefault(key, []).append(value)


def timed(context, share, name, full, *options):
    """Throughput and latency of one VM."""
    script = f"python3 /mnt/share/dma_bench.py {'--full' if full else ''} /dev/vda {' '.join(MTUS)}"
    figures = json.loads(_inside(context, name, script, "--io-tools", "--smp", "2", "--disk", "null:64G,queues=2", "--net", "pair",
                                 "--share", share, *options))
    for how in ("read", "write"):
        figures[f"best.{how}"] = max(value for key, value in figures.items() if re.match(rf"disk\.(rand)?{how}\.", key))
    figures["losses"] = sum(figures.pop(f"net.{counter}") for counter in ("tx_dropped", "rx_dropped", "tx_errors", "rx_errors"))
    return figures


def counted(context, share, name, *options):
    """Instructions, copies and flips of one VM with one CPU, so that the interrupts come to it."""
    output = _inside(context, name, COUNTED, "--smp", "1", "--count-instructions", "--disk", "null:64G", "--share", share, *options)
    blocks = [block.splitlines() for block in output.split("pool\n")[1:]]
    lines = [dict(pair.split("=", 1) for pair in block[-1].split()[1:]) for block in blocks[:2]]
    pools = [dict(line.split(": ", 1) for line in block if ": " in line) for block in blocks]
    small = dict(re.findall(r"^(read|write) size=4096 .*instructions_median=(\d+)$", output, re.MULTILINE))
    figures, moved = {f"instructions.{how}4k": int(count) for how, count in small.items()}, 0
    for how, line, before, after in zip(("read", "write"), lines, pools, pools[1:]):
        figures[f"instructions.{how}"] = int(line["instructions_median"])
        moved += int(line["bytes"])
        if before:
            copied = sum(int(after[key]) - int(before[key]) for key in ("bytes_copied_in", "bytes_copied_out"))
            figures[f"copied.{how}"] = copied / int(line["bytes"])
    if pools[0]:
        figures["flips"] = (int(pools[2]["flips"]) - int(pools[0]["flips"])) * GIGABYTE / moved
    return figures


def mapped(context, *options):
    """What the module sev_dma_bench says of two VMs: figures by configuration."""
    counts, times = _mapped(context, 0, "--count-instructions", *options), _mapped(context, 1, *options)
    figures = {}
    for way in ("swiotlb", "shim"):
        own = {size: count for (of, cpus, size), count in counts.items() if (of, cpus) == (way, 1) and size}
        # The kernel's bounce buffers copy in; of a request that is a page.
        copies = {size: counts["copy", 1, size] if way == "swiotlb" else 0 for size in own}
        figures[way] = {f"map.{size}": count - copies[size] for size, count in own.items()}
        figures[way]["map.request"] = counts[way, 1, 0] - copies[4096]
        if (way, 2, 4096) in times:
            figures[way]["two_cpus"] = 2 * times[way, 1, 4096] / times[way, 2, 4096]
    return figures


def _mapped(context, which, *options):
    """Instructions (0) or nanoseconds (1) of one VM: medians by way, number of CPUs, and size, or 0 for a request."""
    script = "modprobe sev_dma_bench device=$(basename $(dirname $(grep -l 0x0002 /sys/bus/virtio/devices/*/device))) && dmesg"
    output = _inside(context, "shim", script, "--smp", "2", "--disk", "null:1G", *options)
    found = {}
    for way, cpus, size, *values in MAPPED.findall(output):
        found.setdefault((way, int(cpus or 1), int(size or 0)), []).append(int(values[which]))
    return {key: statistics.median(values) for key, values in found.items()}


def _inside(context, name, script, *options):
    result = context.lab("run", *CONFIGURATIONS[name], *MACHINE, *options, "--", "sh", "-c", script)
    if result.returncode:
        raise LabError(f"measuring {name}: status {result.returncode}\n{result.stdout.decode()}{result.stderr.decode()}")
    return result.stdout.decode()
