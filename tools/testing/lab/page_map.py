# SPDX-License-Identifier: GPL-2.0
"""Pictures of a SEV guest's memory: which pages it shares. The program sev-map reads its page tables and draws them."""

import subprocess
from pathlib import Path

from .errors import LabError
from .guest_memory import C_BIT


def survey(program, files, qmp, *more):
    """What sev-map says of a guest whose virtual CPUs stand still. `files` are its memory, `more` are arguments."""
    cr3, levels = qmp.page_tables()
    command = [program, "--shared", files["shared"], "--private", files["private"], "--c-bit", str(C_BIT),
               "--cr3", f"{cr3:x}", "--levels", str(levels), *more]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode:
        raise LabError(f"the guest's memory cannot be surveyed: {result.stderr.strip()}")
    return result.stdout


class PageMap:
    """Takes pictures into a directory: the last one has the name that was asked for, those before it get a number."""

    def __init__(self, files, program, directory, name):
        self._program, self._files = program, files
        self._directory, self._name = Path(directory), Path(name)
        self._taken = 0

    def take(self, qmp, last=False):
        """Take a picture, with all virtual CPUs stopped; its file's name, and what there is to say about it."""
        self._taken += 1
        name = self._name if last else self._name.with_stem(f"{self._name.stem}-{self._taken}")
        with qmp.stopped():
            return name.name, survey(self._program, self._files, qmp, "--png", self._directory / name)
