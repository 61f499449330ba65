# SPDX-License-Identifier: GPL-2.0
"""QEMU's machine protocol (QMP), as far as the lab needs it, and one text of its human monitor."""

import contextlib
import json
import re
import socket

from .errors import LabError

# TIMEOUT: a stopped VM answers at once; QEMU first lets its virtual CPUs leave what they are at.
ANSWER_SECONDS = 60


# CR4: 57-bit virtual addresses.
CR4_LA57 = 1 << 12


class Gone(Exception):
    """QEMU has closed the connection."""


class Qmp:
    """A connection to a QEMU, over a socket whose other end it has."""

    def __init__(self):
        self.socket, self.qemus_end = socket.socketpair()
        self.socket.settimeout(ANSWER_SECONDS)
        self._lines = None

    def execute(self, command, **arguments):
        """Execute a command; what it returns."""
        if not self._lines:
            self._lines = self.socket.makefile("rb")
            self._answer("QMP")
            self.execute("qmp_capabilities")
        try:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        except ConnectionError as error:
            raise Gone from error
        return self._answer("return")

    @contextlib.contextmanager
    def stopped(self):
        """All virtual CPUs stand still meanwhile."""
        self.execute("stop")
        try:
            yield
        finally:
            self.execute("cont")

    def page_tables(self):
        """CR3 of the first virtual CPU, and how many levels its page tables have."""
        registers = self.execute("human-monitor-command", **{"command-line": "info registers"})
        cr3, cr4 = (int(re.search(rf"\bCR{number}=([0-9a-f]+)", registers)[1], 16) for number in (3, 4))
        return cr3, 5 if cr4 & CR4_LA57 else 4

    def _answer(self, key):
        while True:
            try:
                line = self._lines.readline()
            except TimeoutError as error:
                raise LabError(f"QEMU did not answer within {ANSWER_SECONDS} s") from error
            except ConnectionError as error:
                raise Gone from error
            if not line:
                raise Gone
            message = json.loads(line)
            if "error" in message:
                raise LabError(f"QEMU refused: {message['error'].get('desc')}")
            if key in message:
                return message[key]
