# SPDX-License-Identifier: GPL-2.0
"""Long steps: a progress bar (bars.py) while they run, a log file when they fail.

How far a step is, is counted in lines of its log; how many there will be is known from the last time it ran, or
from the caller's estimate. All of it goes to standard error: standard output belongs to the command.
"""

import json
import os
import subprocess
import sys
import threading
import time

from .bars import Bar
from .errors import LabError
from .paths import cache_root
from .sandbox import Sandbox

LOGS_KEPT = 20

# How the lab's own scripts mark what is for the user, in the output of a command.
NOTE = b"LAB: "

_lock = threading.Lock()


def new_log(name):
    """A path for a log file in the cache; the oldest logs go."""
    logs = cache_root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    # By name, which begins with the time. Another lab may be doing the same.
    for old in sorted(logs.iterdir())[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}-{name}.log"


class Step:
    """One long step. Use as a context manager; commands run with `run` feed its log and its bar."""

    def __init__(self, name, title, lines):
        self.name, self.title = name, title
        self.expected = _known_lines().get(name, lines)
        self.path = new_log(name)
        self.notes = []

    def __enter__(self):
        self.log = open(self.path, "wb")
        self.bar = Bar(self.title, self.expected)
        return self

    def __exit__(self, kind, error, traceback):
        self.log.close()
        self.bar.end(error is None)
        if error is None:
            _remember_lines(self.name, self.bar.done)
            self.path.unlink(missing_ok=True)
            for note in self.notes:
                print(f"lab: {note}", file=sys.stderr, flush=True)

    def feed(self, stream):
        """Copy a stream into the log until its end, moving the bar line by line."""
        for line in stream:
            self.log.write(line)
            self.bar.done += 1
            if line.startswith(NOTE):
                self.notes.append(line[len(NOTE):].decode(errors="replace").strip())

    def run(self, root, argv, **options):
        """Run a command in the tool root `root`; None: with the machine's own files."""
        self.log.write(f"$ {' '.join(map(str, argv))}\n".encode())
        self.log.flush()
        sandbox = Sandbox(root, argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        try:
            self.feed(sandbox.process.stdout)
            status = sandbox.wait()
        except BaseException:
            sandbox.kill()
            raise
        if status:
            self.fail(f"{argv[0]} failed with status {status}")

    def fail(self, why):
        """End the step with an error: what the command had to say to the user, else the log's last lines."""
        self.log.flush()
        if self.notes:
            raise LabError(f"{self.title}: {'; '.join(self.notes)}", log=self.path)
        tail = self.path.read_text(errors="replace").splitlines()[-12:]
        shown = "\n".join("    " + line for line in tail)
        raise LabError(f"{self.title}: {why}. The end of its log:\n{shown}", log=self.path)


def _lines_file():
    return cache_root() / "step-lines.json"


def _known_lines():
    try:
        return json.loads(_lines_file().read_text())
    except (OSError, ValueError):
        return {}


def _remember_lines(name, lines):
    with _lock:
        known = {**_known_lines(), name: lines}
        new = _lines_file().with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(known))
        new.rename(_lines_file())
