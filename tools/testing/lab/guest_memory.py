# SPDX-License-Identifier: GPL-2.0
"""The memory of a SEV guest: what the host sees too, and what only the guest's processors see.

QEMU's TCG has 40 physical address bits, so the C-bit is bit 39, and private memory is a second RAM at that address. It
begins as an alias of the first, two names of one file: firmware and code without paging cannot set the C-bit.
"""

import os
from pathlib import Path

# As the plugin's CPUID says (tools/testing/sev-cpu/src/answers.rs).
C_BIT = 1 << 39

# Where QEMU's q35 has memory with that much of it: in one piece from address 0, below the hole for devices.
MOST_MIB = 2048


def describe(directory):
    """Where in `directory` the two files will be, and where their memory is for the guest."""
    return {"shared": f"{directory}/shared.ram", "private": f"{directory}/private.ram", "c_bit": C_BIT,
            # Beyond the second RAM.
            "end": C_BIT + (64 << 30)}


def create(memory, mib):
    """Make the two files, empty; those of an earlier attempt go."""
    for name in ("shared", "private"):
        Path(memory[name]).unlink(missing_ok=True)
    with open(memory["shared"], "wb") as file:
        file.truncate(mib << 20)
    os.link(memory["shared"], memory["private"])
