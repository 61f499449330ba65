# SPDX-License-Identifier: GPL-2.0
"""Pictures of a SEV guest's memory: which pages it shares. The program sev-map reads its page tables and draws them."""

import subprocess
from pathlib import Path

from .errors import LabError
from .guest_memory import C_BIT


class PageMap:
    """Takes pictures into a directory: the last one has the name that was asked for, those before it get a number."""

    def __init__(self, files, program, directory, name):
        self._command = [program, "--shared", files["shared"], "--private", files["private"], "--c-bit", str(C_BIT)]
        self._directory, self._name = Path(directory), Path(name)
        self._taken = 0

    def take(self, qmp, last=False):
        """Take a picture, with all virtual CPUs stopped; its file's name, and what there is to say about it."""
        self._taken += 1
        name = self._name if last else self._name.with_stem(f"{self._name.stem}-{self._taken}")
        with qmp.stopped():
            cr3, levels = qmp.page_tables()
            command = [*self._command, "--cr3", f"{cr3:x}", "--levels", str(levels), "--png", self._directory / name]
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode:
            raise LabError(f"the guest's memory cannot be drawn: {result.stderr.strip()}")
        return name.name, result.stdout
