# SPDX-License-Identifier: GPL-2.0
"""`--vdev`: virtio devices of the project's own (tools/testing/vdev), each a program that QEMU reaches by vfio-user.

Each keeps a log of all memory it was given. What the guest's page tables say of those pages is compared with it while the
guest stands still.
"""

import dataclasses
import json
import re

from . import devices, page_map, programs, sandbox, toolroot
from .errors import EXIT_USAGE, LabError

PAGE = 4096

# A line of sev-map's.
SHARED_RANGE = re.compile(r"^(0x[0-9a-f]+)-(0x[0-9a-f]+) +\d+ pages shared", re.MULTILINE)

MASK = (1 << 64) - 1

# How many addresses an answer names.
NAMED = 4


@dataclasses.dataclass
class Vdev:
    """A device: its program's arguments, where it listens, its log in the sandbox, and where that begins to be of interest."""

    name: str
    arguments: list
    socket: str
    log: str
    begin: int = 0


def described(options, directory, private):
    """The `Vdev`s of a command line, and the modules they need. In a guest, memory from the address `private` on is not for them."""
    vdevs, drivers = [], []
    for number, spec in enumerate(options.vdev, start=1):
        kind = spec.split(",")[0]
        if kind not in ("blk", "net"):
            raise LabError(f"--vdev {spec}: there are blk and net; blk,hostile=help lists the modes", status=EXIT_USAGE)
        drivers += [name for name in devices.DRIVERS[kind] if name not in drivers]
        name, log = f"vdev{number}", f"{directory}/vdev{number}.jsonl"
        socket = f"{directory}/{name}.sock"
        arguments = ["--socket", socket, "--log", log]
        if options.role == "guest":
            arguments += ["--private", f"{private:#x}"]
        if kind == "blk" and "serial=" not in spec:
            spec += f",serial={name}"
        vdevs.append(dataclasses.asdict(Vdev(name, [*arguments, spec], socket, log)))
    return vdevs, drivers


def print_help():
    """Print the table of hostile modes."""
    root = toolroot.get()
    print(sandbox.output(root, [programs.vdev(root), "--socket", "/none", "blk,hostile=help"]))
    return 0


def pattern(length):
    """What a disk with the option `pattern` has on it."""
    words = []
    for state in range(0, length, 8):
        word = (state + 0x9e3779b97f4a7c15) & MASK
        word = ((word ^ word >> 30) * 0xbf58476d1ce4e5b9) & MASK
        word = ((word ^ word >> 27) * 0x94d049bb133111eb) & MASK
        words.append((word ^ word >> 31).to_bytes(8, "little"))
    return b"".join(words)


def events(log, begin=0):
    """The lines of a log as dicts, from an offset on."""
    with open(log, encoding="ascii") as file:
        file.seek(begin)
        # The last line may be under way.
        return [json.loads(line) for line in file if line.endswith("\n")]


def touched(log, begin):
    """The numbers of all pages a device was given, or went to, and of those that are no memory for it; from an offset on."""
    pages, refused = set(), set()
    for event in events(log, begin):
        if event["event"] == "pages":
            first = int(event["first"], 16) // PAGE
            pages |= set(range(first, first + event["pages"]))
        elif event["event"] == "refused":
            refused.add(int(event["address"], 16) // PAGE)
    return pages, refused


def compared(vdev, program, files, qmp):
    """What has become of a device's pages: `touched N private M refused K`, and addresses of those that should not be there.

    All virtual CPUs stand still. `program` is sev-map, `files` are the guest's memory.
    """
    with qmp.stopped():
        shared = set()
        for first, last in SHARED_RANGE.findall(page_map.survey(program, files, qmp)):
            shared |= set(range(int(first, 16) // PAGE, int(last, 16) // PAGE + 1))
        pages, refused = touched(vdev["log"], vdev["begin"])
    private = sorted(pages - shared)
    named = [f"{page * PAGE:#x}" for page in [*private[:NAMED], *sorted(refused)[:NAMED]]]
    return " ".join([f"touched {len(pages)} private {len(private)} refused {len(refused)}", *named])
