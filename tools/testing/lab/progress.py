# SPDX-License-Identifier: GPL-2.0
"""Long steps: a progress bar on a terminal, a line per step elsewhere, a log file on failure.

How far a step is, is counted in lines of its log; how many there will be is known from the last time it ran, or
from the caller's estimate. All of it goes to standard error: standard output belongs to the command.
"""

import json
import subprocess
import sys
import threading
import time

from .errors import LabError
from .paths import cache_root
from .sandbox import Sandbox

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
except ImportError:
    Progress = None

LOGS_KEPT = 20

_lock = threading.Lock()
_bars = None
_running = 0


def new_log(name):
    """A path for a log file in the cache; the oldest logs go."""
    logs = cache_root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.iterdir(), key=lambda log: log.stat().st_mtime)[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}-{name}.log"


class Step:
    """One long step. Use as a context manager; commands run with `run` feed its log and its bar."""

    def __init__(self, name, title, lines):
        self.name, self.title = name, title
        self.expected = _known_lines().get(name, lines)
        self.lines = 0
        self.path = new_log(name)

    def __enter__(self):
        self.log = open(self.path, "wb")
        self.start = time.monotonic()
        self.bar = _open_bar(self.title, self.expected)
        return self

    def __exit__(self, kind, error, traceback):
        self.log.close()
        elapsed = time.monotonic() - self.start
        _close_bar(self.bar, self.title, elapsed, error is None)
        if error is None:
            _remember_lines(self.name, self.lines)
            self.path.unlink()

    def feed(self, stream):
        """Copy a stream into the log until its end, moving the bar line by line."""
        for line in stream:
            self.log.write(line)
            self.lines += 1
            if self.bar is not None:
                _bars.update(self.bar, completed=min(self.lines, self.expected - 1))

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
        """End the step with an error that shows the log's last lines."""
        self.log.flush()
        tail = self.path.read_text(errors="replace").splitlines()[-12:]
        shown = "\n".join("    " + line for line in tail)
        raise LabError(f"{self.title}: {why}. The end of its log:\n{shown}", log=self.path)


def message(text):
    """One line for the user, above the bars when there are any."""
    if _bars is not None:
        _bars.console.print(text, highlight=False, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)


def _open_bar(title, expected):
    global _bars, _running
    with _lock:
        _running += 1
        if Progress is None or not sys.stderr.isatty():
            print(f"lab: {title} ...", file=sys.stderr, flush=True)
            return None
        if _bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"),
                       TimeRemainingColumn())
            _bars = Progress(*columns, console=Console(stderr=True))
            _bars.start()
        return _bars.add_task(title, total=max(expected, 1))


def _close_bar(bar, title, elapsed, good):
    global _bars, _running
    with _lock:
        _running -= 1
        if bar is None:
            print(f"lab: {title}: {'done' if good else 'failed'} after {elapsed:.0f} s", file=sys.stderr, flush=True)
            return
        if good:
            _bars.update(bar, total=1, completed=1)
        if _running == 0:
            _bars.stop()
            _bars = None


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
        new = _lines_file().with_suffix(".new")
        new.write_text(json.dumps(known))
        new.rename(_lines_file())
