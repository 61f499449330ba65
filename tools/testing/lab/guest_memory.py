# SPDX-License-Identifier: GPL-2.0
"""The memory of a SEV guest: what the host sees too, and what only the guest's processors see.

QEMU's TCG has 40 physical address bits, so the C-bit is bit 39, and private memory is a second RAM at that address. It
begins as an alias of the first, two names of one file: firmware and code without paging cannot set the C-bit. Sealing
makes them two files (tools/testing/sev-cpu/src/seal.rs).
"""

import contextlib
import mmap
import os
import socket
from pathlib import Path

from .errors import LabError
from .qmp import Gone

# As the plugin's CPUID says (tools/testing/sev-cpu/src/answers.rs).
C_BIT = 39

# Where QEMU's q35 has memory with that much of it: in one piece from address 0, below the hole for devices.
MOST_MIB = 2048

# What is looked for has so many bytes or more: fewer are found by accident.
SHORTEST = 8

# TIMEOUT: every page of the guest is copied or filled once, on a busy machine.
ORDER_SECONDS = 120


def describe(directory):
    """Where in `directory` the two files will be, and where their memory is for the guest."""
    return {"shared": f"{directory}/shared.ram", "private": f"{directory}/private.ram", "address": 1 << C_BIT,
            # The end of what QEMU has to reserve: well beyond the second RAM.
            "end": (1 << C_BIT) + (64 << 30)}


class GuestMemory:
    """The two files, seen from the host. `files` is what `describe` said."""

    def __init__(self, files, mib):
        self._files = files
        for name in ("shared", "private"):  # of an earlier attempt to boot
            Path(files[name]).unlink(missing_ok=True)
        with open(files["shared"], "wb") as file:
            file.truncate(mib << 20)
        os.link(files["shared"], files["private"])
        self._orders, self.plugins_end = socket.socketpair()
        self._orders.settimeout(ORDER_SECONDS)
        self._answers = self._orders.makefile()

    def seal(self, qmp):
        """Have the plugin give private memory a file of its own. Until it is done no virtual CPU runs."""
        self._order("seal", qmp)

    def shared_pages(self, qmp):
        """How many pages the guest's kernel has mapped shared."""
        return int(self._order("count", qmp))

    def find(self, patterns):
        """How many of these byte strings are in shared memory, and how many in private memory."""
        return tuple(self._found(name, patterns) for name in ("shared", "private"))

    def read(self, address, length):
        """What a device reads at a guest-physical address."""
        with self._mapped("shared") as memory:
            if not 0 <= address <= address + length <= len(memory):
                raise LabError(f"there is no memory at {address:#x} with {length} bytes")
            return memory[address:address + length]

    def _order(self, word, qmp):
        with qmp.stopped():
            cr3, levels = qmp.page_tables()
            try:
                self._orders.sendall(f"{word} {cr3:x} {levels} {C_BIT}\n".encode())
                answer = self._answers.readline()
            except TimeoutError as error:
                raise LabError(f"the plugin did not {word} the guest's memory within {ORDER_SECONDS} s") from error
            except ConnectionError as error:
                raise Gone from error
        if not answer:
            raise Gone
        outcome, _, rest = answer.strip().partition(" ")
        if outcome != "done":
            raise LabError(f"the plugin cannot {word} the guest's memory: {rest}")
        return rest

    def _found(self, name, patterns):
        # Markers have a common beginning; one pass for all of them.
        prefix = os.path.commonprefix(patterns)
        missing, longest = set(patterns), max(map(len, patterns))
        with self._mapped(name) as memory:
            place = memory.find(prefix)
            while place >= 0 and missing:
                here = memory[place:place + longest]
                missing = {pattern for pattern in missing if not here.startswith(pattern)}
                place = memory.find(prefix, place + 1)
        return len(set(patterns)) - len(missing)

    @contextlib.contextmanager
    def _mapped(self, name):
        with open(self._files[name], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            yield memory
