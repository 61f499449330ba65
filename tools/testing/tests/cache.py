# SPDX-License-Identifier: GPL-2.0
"""The cache: interrupted builds, two builds at once, stale entries, full disks. In a cache of its own, without VMs."""

import os
import signal
import subprocess
import sys
import time

from lab.paths import CHECKOUT
from lab.suites import contains, equal

PRELUDE = "import os, sys, time; from lab import cache; from lab.errors import LabError\n"


def start(context, program):
    """Start a Python program that has the lab's modules and a cache of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(context.directory), "PYTHONPATH": str(CHECKOUT / "tools/testing"),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, "-c", PRELUDE + program], env=environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def python(context, program):
    """Run such a program to its end; its output and its errors."""
    process = start(context, program)
    output, errors = process.communicate(timeout=60)
    return output.strip(), errors.strip()


BUILD = """
def build(new):
    print("building", flush=True)
    (new / "file").write_text("whole")
"""
USE = BUILD + """
print((cache.entry("kind", "key", "the thing", build) / "file").read_text())
"""
# Builds that write half and then stop, one by an exception, one for good.
FAIL = """
def build(new):
    (new / "file").write_text("half")
    raise LabError("no luck")
try:
    cache.entry("kind", "key", "the thing", build)
except LabError as error:
    print(error)
"""
HANG = """
def build(new):
    (new / "file").write_text("half")
    print("building", flush=True)
    time.sleep(100)
cache.entry("kind", "key", "the thing", build)
"""


def entries(context):
    """The names of the entries of the one kind."""
    directory = context.directory / "linux-sev-rust/kind"
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_an_entry_is_built_once(context):
    equal(python(context, USE)[0], "building\nwhole", "the first use")
    equal(python(context, USE)[0], "whole", "the second use")


def test_a_failed_build_leaves_nothing(context):
    equal(python(context, FAIL)[0], "no luck", "the error")
    equal(entries(context), [], "entries")
    equal(python(context, USE)[0], "building\nwhole", "the next use")


def test_a_killed_build_does_not_count(context):
    process = start(context, HANG)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    equal(python(context, USE)[0], "building\nwhole", "the next use")


def test_a_second_build_waits_for_the_first(context):
    first = start(context, HANG)
    first.stdout.readline()
    second = start(context, USE)
    message = second.stderr.readline()
    contains(message, "waiting for another lab that is busy with the thing", "the message")
    time.sleep(0.3)
    equal(second.poll(), None, "the second while the first builds")
    first.kill()
    first.communicate()
    equal(second.communicate(timeout=60)[0].strip(), "building\nwhole", "the second after the first")


def test_stale_entries_go_unless_in_use(context):
    holder = start(context, BUILD + """
cache.entry("kind", "held", "the thing", build)
time.sleep(100)
""")
    holder.stdout.readline()
    python(context, BUILD + """
for key in ("a", "b", "c", "d"):
    cache.entry("kind", key, "the thing", build)
    cache._in_use.clear()
    time.sleep(0.05)
""")
    holder.kill()
    holder.communicate()
    equal(entries(context), ["c", "d", "held"], "what is left of five")


def test_a_full_disk_is_said_before_anything_is_written(context):
    output, _ = python(context, BUILD + """
try:
    cache.entry("kind", "key", "the thing", build, space_mib=1 << 40)
except LabError as error:
    print(error)
""")
    contains(output, "the thing needs 1099511627776 MiB of disk space", "the message")
    contains(output, "XDG_CACHE_HOME", "the message")
    equal(entries(context), [], "entries")


def test_distclean_removes_all_but_not_what_is_in_use(context):
    holder = start(context, BUILD + """
cache.entry("kind", "held", "the thing", build)
time.sleep(100)
""")
    holder.stdout.readline()
    clean = "try:\n    cache.remove_all()\nexcept LabError as error:\n    print(error)\n"
    contains(python(context, clean)[0], "in use by another lab", "the message")
    equal(entries(context), ["held"], "entries")
    holder.kill()
    holder.communicate()
    equal(python(context, clean)[0], "", "no message")
    equal(os.path.exists(context.directory / "linux-sev-rust"), False, "the cache")


def test_object_files_of_checkouts_that_are_gone_go(context):
    builds = context.directory / "linux-sev-rust/build"
    here, gone = context.directory / "here", context.directory / "gone"
    here.mkdir()
    for name, checkout in (("here", here), ("gone", gone)):
        (builds / name / "target").mkdir(parents=True)
        (builds / name / "checkout").write_text(str(checkout))
    (builds / "anybody's").mkdir()
    equal(python(context, "cache.claim_builds()"), ("", ""), "what is said")
    own = [path.parent for path in builds.glob("*/checkout") if path.read_text() == str(CHECKOUT)]
    equal(sorted(path.name for path in builds.iterdir()), sorted(["here", "anybody's", own[0].name]), "what is left")
    # Only the first time.
    here.rmdir()
    python(context, "cache.claim_builds()")
    equal((builds / "here").exists(), True, "that of a checkout that went later")
