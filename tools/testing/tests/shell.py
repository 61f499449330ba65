# SPDX-License-Identifier: GPL-2.0
"""`tools/lab shell`, on a terminal of its own."""

import os
import signal
import subprocess

from lab.processes import assert_gone, descendants
from lab.suites import contains, equal
from lab.terminals import read_until

# The small kernel on one CPU boots in a third of the time; Debian's, and more CPUs, have tests of their own.
KERNELS = ("kunit",)
SHELL = ("shell", "--role", "plain", "--kernel", "kunit", "--smp", "1")


def test_shell_gives_a_terminal(context):
    ours, theirs = os.openpty()
    process = context.start(*SHELL, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    contains(read_until(ours, b"# "), b"root@lab", "the prompt")
    os.write(ours, b"tty; echo it-is-a-$((40+2))-terminal; sleep 1000\r")
    output = read_until(ours, b"42-terminal")
    contains(output, b"/dev/hvc0", "the terminal")
    os.write(ours, b"\x03")  # Ctrl-C ends the sleep, not the VM
    read_until(ours, b"# ")
    os.write(ours, b"exit 5\r")
    read_until(ours, b"never")
    os.close(ours)
    equal(process.wait(timeout=60), 5, "status")


def test_shell_is_ended_by_its_escape_key(context):
    ours, theirs = os.openpty()
    process = context.start(*SHELL, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    read_until(ours, b"# ")
    processes = descendants(process.pid)
    os.write(ours, b"\x1d")
    read_until(ours, b"never")
    os.close(ours)
    equal(process.wait(timeout=30), 128 + signal.SIGTERM, "status")
    assert_gone(processes)


def test_shell_ends_when_its_terminal_goes(context):
    ours, theirs = os.openpty()
    process = context.start(*SHELL, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    read_until(ours, b"# ")
    processes = descendants(process.pid)
    os.close(ours)
    process.wait(timeout=30)
    assert_gone(processes)
