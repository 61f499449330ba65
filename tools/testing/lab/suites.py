# SPDX-License-Identifier: GPL-2.0
"""The test runner: `lab test [SUITE]...`.

A suite is a module in tools/testing/tests. Either its functions named test_* are its tests, each called with a
`Context` and failing by an exception; or it has a function `results(context)` that yields `Result`s, for tools that
count their tests themselves. A suite's KERNELS are made before its first test. Tests of one suite run two at a time
unless the function has the attribute `alone`.
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import kernels, sandbox
from .errors import EXIT_USAGE, LabError
from .paths import CHECKOUT

TESTS = CHECKOUT / "tools/testing/tests"

# Suites in the order they run: cheap ones first, so that a mistake is seen early.
ORDER = ("style", "cargo", "cache", "kunit", "refusal", "lab", "shell", "ending")

WORKERS = 2

# TIMEOUT: the first test that wants the KUnit or the debug kernel builds it, half an hour on a busy machine.
TEST_SECONDS = 2400

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# What a kernel prints when something is wrong with it; "cut here" stands above every WARN.
SPLATS = "BUG:|cut here|Oops:|UBSAN:|general protection|possible circular|suspicious RCU|inconsistent lock"

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

    def lab(self, *arguments, **options):
        """Run tools/lab to its end; a CompletedProcess with bytes."""
        process = self.start(*arguments, **options)
        output, errors = process.communicate(timeout=TEST_SECONDS)
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
    """A shell script that in the end also looks for complaints of the kernel; status 99 if there are any."""
    return f"{script}\nstatus=$?\ndmesg | grep -E '{SPLATS}' >&2 && exit 99\nexit $status"


def run(root, names):
    """Run suites; the exit status."""
    known = {path.stem: path for path in TESTS.glob("*.py")}
    unknown = set(names) - set(known)
    if unknown:
        raise LabError(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}", status=EXIT_USAGE)
    wanted = names or sorted(known, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    passed = failed = 0
    for name in wanted:
        print(f"== {name}", flush=True)
        for result in _suite_results(root, name, known[name]):
            _show(name, result)
            passed += result.passed
            failed += not result.passed
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _show(suite, result):
    took = f" ({result.seconds:.1f} s)" if result.seconds >= 0.05 else ""
    print(f"{'ok  ' if result.passed else 'FAIL'} {suite}: {result.name}{took}", flush=True)
    if not result.passed:
        print("\n".join("     " + line for line in result.detail.splitlines()), flush=True)


def _suite_results(root, name, path):
    directory = tempfile.mkdtemp(prefix=f"lab-test-{name}-")
    try:
        module = _load(name, path)
        for kernel in getattr(module, "KERNELS", ()):
            kernels.get(root, kernel)
        if hasattr(module, "results"):
            yield from module.results(Context(root, directory))
        else:
            yield from _run_functions(module, root, directory)
    except Exception:  # a suite that cannot run is one failed test, and the others still run
        yield Result("the suite itself", False, traceback.format_exc())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _load(name, path):
    spec = importlib.util.spec_from_file_location(f"tests_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run_functions(module, root, directory):
    functions = [function for name, function in vars(module).items() if name.startswith("test_")]
    together = [function for function in functions if not getattr(function, "alone", False)]
    alone = [function for function in functions if getattr(function, "alone", False)]
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(lambda function: _run_function(function, root, directory), together)
    finally:
        for process in _started:
            if process.poll() is None:
                process.kill()
        pool.shutdown(cancel_futures=True)
    for function in alone:
        yield _run_function(function, root, directory)


def _run_function(function, root, directory):
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
    return Result(name, not detail, detail, time.monotonic() - start)
