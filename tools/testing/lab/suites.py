# SPDX-License-Identifier: GPL-2.0
"""The test runner: `lab test [SUITE]...`.

A suite is a module in tools/testing/tests. Either its functions named test_* are its tests, each called with a
`Context` and failing by an exception; or it has a function `results(context)` that yields `Result`s, for tools that
count their tests themselves. A suite's KERNELS are made before its first test.

The tests of all suites run side by side, those first that took longest the last time. A function with the attribute
`waits` spends its time waiting and runs beside the others; one with the attribute `alone` runs after all others.
"""

import ctypes
import dataclasses
import functools
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from . import kernels, sandbox
from .errors import EXIT_USAGE, LabError
from .paths import CHECKOUT, cache_root

TESTS = CHECKOUT / "tools/testing/tests"

# One more than there are processors: a VM that waits for its PSP leaves room for another.
WORKERS = (os.cpu_count() or 1) + 1
WAITERS = 1

# TIMEOUT: the first test that wants the KUnit or the debug kernel builds it, half an hour on a busy machine.
TEST_SECONDS = 2400

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# What a kernel prints when something is wrong with it; "cut here" stands above every WARN.
SPLATS = "BUG:|cut here|Oops:|UBSAN:|general protection|possible circular|suspicious RCU|inconsistent lock"

# `damage FILE OFFSET` in a script: the byte there is another one afterwards, whatever it was. In keys and signatures any
# byte written there would be the right one now and then.
DAMAGE = """damage() { python3 -c 'import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2])); byte = file.read(1)[0]
    file.seek(-1, 1); file.write(bytes([byte ^ 1]))' "$1" "$2"; }
"""

# Every lab the tests have started, to be ended with the runner.
_started = []


@dataclass
class Result:
    """The outcome of one test; `detail` says what is wrong."""

    name: str
    passed: bool
    detail: str = ""
    seconds: float = 0


def _die_with_runner():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Failure(Exception):
    """A test's expectation that did not come true."""


class Context:
    """What a test gets: the tool root, a directory of its own, and the lab."""

    def __init__(self, root, directory):
        self.root = root
        self.directory = Path(directory)

    def lab(self, *arguments, longer=0, **options):
        """Run tools/lab to its end, which may come `longer` seconds later than other tests'; a CompletedProcess with bytes."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate(timeout=TEST_SECONDS + longer)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start(self, *arguments, **options):
        """Start tools/lab in a process group of its own; a Popen."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen([CHECKOUT / "tools/lab", *map(str, arguments)], start_new_session=True,
                                   preexec_fn=_die_with_runner, **options)
        _started.append(process)
        return process

    def output(self, *command, **options):
        """What a command in the tool root prints."""
        return sandbox.output(self.root, command, **options)


def equal(actual, expected, what):
    """Fail unless both are equal."""
    if actual != expected:
        raise Failure(f"{what}: expected {expected!r}, got {actual!r}")


def exactly(result, stdout, stderr, status):
    """Fail unless a finished lab printed and ended exactly so."""
    equal((result.stdout, result.stderr, result.returncode), (stdout, stderr, status), "stdout, stderr, status")


def contains(text, part, what):
    """Fail unless `part` is in `text`."""
    if part not in text:
        raise Failure(f"{what}: expected {part!r} in {text!r}")


def watched(script):
    """A shell script that has DAMAGE, and in the end also looks for complaints of the kernel; status 99 if there are any."""
    return f"{DAMAGE}{script}\nstatus=$?\ndmesg | grep -E '{SPLATS}' >&2 && exit 99\nexit $status"


@dataclass
class Job:
    """What a worker does in one go: one test, or a suite that counts for itself."""

    name: str
    # Yields results.
    results: Callable
    waits: bool = False
    alone: bool = False


def run(root, names):
    """Run suites; the exit status."""
    known = {path.stem: path for path in TESTS.glob("*.py")}
    unknown = set(names) - set(known)
    if unknown:
        raise LabError(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}", status=EXIT_USAGE)
    directory = tempfile.mkdtemp(prefix="lab-test-")
    report = Report()
    try:
        jobs = [job for name in names or sorted(known) for job in _jobs(root, name, known[name], directory)]
        _run_jobs(jobs, report)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{report.passed} passed, {report.failed} failed", flush=True)
    return 1 if report.failed else 0


class Report:
    """Prints results as they come, counts them, and remembers how long each job took."""

    def __init__(self):
        self.passed = self.failed = 0
        self._lock = threading.Lock()
        self._file = cache_root() / "test-seconds.json"
        try:
            self._seconds = json.loads(self._file.read_text())
        except (OSError, ValueError):
            self._seconds = {}

    def run(self, job):
        """Run a job."""
        start = time.monotonic()
        for result in job.results():
            self._show(result)
        with self._lock:
            self._seconds[job.name] = round(time.monotonic() - start, 1)
            new = self._file.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(self._seconds))
            new.rename(self._file)

    def longest_first(self, jobs):
        """The jobs in the order to be started; those never seen come first."""
        return sorted(jobs, key=lambda job: -self._seconds.get(job.name, math.inf))

    def _show(self, result):
        took = f" ({result.seconds:.1f} s)" if result.seconds >= 0.05 else ""
        lines = [f"{'ok  ' if result.passed else 'FAIL'} {result.name}{took}"]
        if not result.passed:
            lines += result.detail.splitlines()
        with self._lock:
            print("\n     ".join(lines), flush=True)
            self.passed += result.passed
            self.failed += not result.passed


def _jobs(root, suite, path, directory):
    """The jobs of a suite."""
    own = os.path.join(directory, suite)
    os.mkdir(own)
    try:
        module = _load(suite, path)
        for kernel in getattr(module, "KERNELS", ()):
            kernels.get(root, kernel)
    except Exception:  # a suite that cannot run is one failed test, and the others still run
        failure = Result(f"{suite}: the suite itself", False, traceback.format_exc())
        return [Job(suite, lambda: [failure])]
    if hasattr(module, "results"):
        return [Job(suite, lambda: _suite_results(module, suite, Context(root, own)))]
    functions = [function for name, function in vars(module).items() if name.startswith("test_")]
    return [Job(f"{suite}: {function.__name__}", functools.partial(_function_results, suite, function, root, own),
                getattr(function, "waits", False), getattr(function, "alone", False)) for function in functions]


def _suite_results(module, suite, context):
    try:
        for result in module.results(context):
            yield dataclasses.replace(result, name=f"{suite}: {result.name}")
    except Exception:
        yield Result(f"{suite}: the suite itself", False, traceback.format_exc())


def _function_results(suite, function, root, directory):
    name = function.__name__.removeprefix("test_").replace("_", " ")
    own = os.path.join(directory, function.__name__)
    os.mkdir(own)
    start = time.monotonic()
    try:
        function(Context(root, own))
        detail = ""
    except Failure as failure:
        detail = str(failure)
    except Exception:
        detail = traceback.format_exc()
    return [Result(f"{suite}: {name}", not detail, detail, time.monotonic() - start)]


def _load(name, path):
    spec = importlib.util.spec_from_file_location(f"tests_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run_jobs(jobs, report):
    pools = ThreadPoolExecutor(WORKERS), ThreadPoolExecutor(WAITERS)
    try:
        running = [pools[job.waits].submit(report.run, job) for job in report.longest_first(jobs) if not job.alone]
        for future in as_completed(running):
            future.result()
    finally:
        for process in _started:
            if process.poll() is None:
                process.kill()
        for pool in pools:
            pool.shutdown(cancel_futures=True)
    for job in jobs:
        if job.alone:
            report.run(job)
