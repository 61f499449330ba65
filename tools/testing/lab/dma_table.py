# SPDX-License-Identifier: GPL-2.0
"""The table of what DMA costs: its lines, their goals, and how it is printed."""

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Line:
    """A line: the figures with one key, and the goal for the guest helper, if there is one."""

    key: str
    title: str
    digits: int = 0
    # What the goal is for: the figure itself, or how many times another configuration's it is ("swiotlb", "none").
    of: str = ""
    at_most: float | None = None
    at_least: float | None = None
    # What the figure is divided by.
    unit: float = 1


LINES = (
    Line("instructions.read", "direct read of 1 MiB, instructions", of="swiotlb", at_most=0.65),
    Line("instructions.write", "direct write of 1 MiB, instructions", of="swiotlb", at_most=0.95),
    Line("instructions.read4k", "direct read of 4 KiB, instructions"),
    Line("instructions.write4k", "direct write of 4 KiB, instructions"),
    Line("map.4096", "map and unmap 4 KiB, instructions without the copy", of="swiotlb", at_most=0.5),
    Line("map.65536", "map and unmap 64 KiB, instructions without the copy", of="swiotlb", at_most=0.5),
    Line("map.request", "map and unmap what a request of 4 KiB needs, instructions", of="swiotlb", at_most=0.5),
    Line("map.1048576", "map and unmap 1 MiB, instructions without the copy"),
    Line("two_cpus", "two CPUs that map 4 KiB at once, times what one does", 2, at_least=1.8),
    # A request has a header, too.
    Line("copied.read", "bytes copied per byte read", 2, at_most=1.01),
    Line("copied.write", "bytes copied per byte written", 2, at_most=1.01),
    Line("flips", "flips per gigabyte", 1, at_most=0),
    Line("segment", "largest mapping, KiB", at_least=4096, unit=KIB),
    Line("disk.read.1m.32.1", "reads of 1 MiB, 32 at once, MiB/s", of="swiotlb", at_least=1.7),
    Line("disk.write.1m.32.1", "writes of 1 MiB, 32 at once, MiB/s", of="swiotlb", at_least=1.25),
    Line("iops.randread.4k.32.1", "random reads of 4 KiB, 32 at once, per second", of="swiotlb", at_least=1.1),
    Line("iops.randwrite.4k.32.1", "random writes of 4 KiB, 32 at once, per second", of="swiotlb", at_least=1.1),
    Line("best.read", "best read throughput, MiB/s", of="none", at_least=0.55),
    Line("best.write", "best write throughput, MiB/s", of="none", at_least=0.55),
    Line("net.1500", "TCP between two interfaces, MTU 1500, Mbit/s"),
    Line("net.65000", "TCP between two interfaces, MTU 65000, Mbit/s"),
    Line("latency", "UDP between two interfaces, half a round trip, microseconds"),
    Line("losses", "packets dropped or wrong", at_most=0),
)

HEADINGS = ("", "none", "swiotlb", "helper", ": swiotlb", ": none", "goal", "met")


def rows(medians):
    """The table as lists of words; a figure that there is not is a dash. `medians` are figures by configuration and key.

    Figures of fio that have no line of their own come last.
    """
    known = {line.key for line in LINES}
    others = [Line(key, key) for key in medians["none"] if key.startswith("disk.") and key not in known]
    return [HEADINGS, *(_row(line, *(medians[name].get(line.key) for name in ("none", "swiotlb", "shim"))) for line in (*LINES, *others))]


def _row(line, none, swiotlb, shim):
    ratios = {"swiotlb": _ratio(shim, swiotlb), "none": _ratio(shim, none)}
    judged = ratios[line.of] if line.of else _scaled(shim, line)
    goal, met = "", ""
    if line.at_most is not None or line.at_least is not None:
        what = f"{line.of and ': ' + line.of + ' '}"
        goal = f"{what}<= {line.at_most:g}" if line.at_most is not None else f"{what}>= {line.at_least:g}"
        met = "-" if judged is None else "yes" if _holds(judged, line) else "NO"
    return (line.title, *(_figure(value, line) for value in (none, swiotlb, shim)),
            *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios.values()), goal, met)


def _holds(value, line):
    return value <= line.at_most if line.at_most is not None else value >= line.at_least


def _ratio(value, other):
    return value / other if value is not None and other else None


def _scaled(value, line):
    return None if value is None else value / line.unit


def _figure(value, line):
    return "-" if value is None else f"{_scaled(value, line):.{line.digits}f}"


def text(rows):
    """The table as text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(f"{word:{'<' if column in (0, 6) else '>'}{width}}" for column, (word, width) in enumerate(zip(row, widths))).rstrip()
                     for row in rows)


def rst(rows, result):
    """The table for Documentation/, with the command that made it."""
    lines = [".. SPDX-License-Identifier: GPL-2.0", "", f"Made by ``{result['command']}`` on Linux {result['kernel']}, with the VM's options",
             f"``{result['machine']}``; medians of {result['rounds']} rounds.", ""]
    lines += [f"- {name}: ``{options}``" for name, options in result["configurations"].items()]
    lines += ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'-' if column else '* -'} {word}".replace("   - ", "     - ").rstrip() for column, word in enumerate(row)]
    lines += ["", *(f".. image:: dma-{name}.svg" for name in ("throughput", "requests", "instructions")), ""]
    return "\n".join(lines)
