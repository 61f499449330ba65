# SPDX-License-Identifier: GPL-2.0
"""The sockets and the pipe between a VM and the lab, and what is read from them."""

import fcntl
import os
import re
import socket
import time

PANIC = re.compile(rb"Kernel panic - not syncing: ([^\r\n]*)[\r\n]")
INIT_STARTED = b"LAB-INIT"
HANG = re.compile(rb"(?:watchdog|rcu|INFO): [^\r\n]*(?:lockup|LOCKUP|stall|blocked for more than)[^\r\n]*")
INSTRUCTION = re.compile(rb"RIP: 0010:[^\r\n]*")
GUEST_ERROR = re.compile(rb"LAB-ERROR: ([^\r\n]*)[\r\n]")
# As large as whoever is not root may have it; more than a kernel prints while it boots.
PIPE_BYTES = 1 << 20


class Stream:
    """The lab's end of a socket whose other end QEMU has; what arrives goes to `sink(bytes)`."""

    def __init__(self, sink):
        self.end, self.qemus_end = self._ends()
        os.set_blocking(self.end.fileno(), False)
        self.sink = sink
        self.ended = False

    def _ends(self):
        return socket.socketpair()

    def pump(self):
        """Pass on everything that has arrived."""
        while not self.ended:
            try:
                data = os.read(self.end.fileno(), 65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if data:
                self.sink(data)
            else:
                self.ended = True


class Pipe(Stream):
    """One that QEMU only writes to.

    For the serial console, whose bytes come one by one and are lost when nobody has read for a while: a socket holds 278 of them.
    """

    def _ends(self):
        ends = [os.fdopen(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"))]
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return ends


class Console:
    """The guest's serial console: kept in a log, watched for the words of a dying kernel."""

    def __init__(self, path):
        self._log = open(path, "wb", buffering=0)
        self._recent = b""
        self.last = time.monotonic()
        self.init_started = False
        self.panic = None
        self.guest_error = None

    def feed(self, data):
        """Take what the console printed."""
        self._log.write(data)
        self.last = time.monotonic()
        self._recent = (self._recent + data)[-65536 - len(data):]
        self.init_started = self.init_started or INIT_STARTED in self._recent
        self.panic = self.panic or _found(PANIC, self._recent)
        self.guest_error = self.guest_error or _found(GUEST_ERROR, self._recent)

    def hang(self):
        """What the kernel has last said of something that does not go on, and where that was, if it knows; or nothing."""
        complaints = list(HANG.finditer(self._recent))
        if not complaints:
            return None
        said = [complaints[-1][0], *INSTRUCTION.findall(self._recent, complaints[-1].end())[:1]]
        return ", ".join(words.decode(errors="replace").strip() for words in said)


class Control:
    """What guest-init.sh reports, a line each: `booted`, which it wants to be answered, `ready`, `warning TEXT`, `status N`."""

    def __init__(self, warn):
        self._warn = warn
        self._rest = b""
        self.booted = self.ready = False
        self.status = None

    def feed(self, data):
        """Take what the guest reported."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, argument = line.decode(errors="replace").partition(" ")
            if word == "booted":
                self.booted = True
            elif word == "ready":
                self.ready = True
            elif word == "warning":
                self._warn(argument)
            elif word == "status" and argument.isdigit():
                self.status = int(argument)


def to_descriptor(fd):
    """A sink that writes everything to a file descriptor."""
    def sink(data):
        while data:
            data = data[os.write(fd, data):]
    return sink


def _found(pattern, data):
    match = pattern.search(data)
    return match and match[1].decode(errors="replace")
