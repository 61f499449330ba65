# SPDX-License-Identifier: GPL-2.0
"""The contract of `tools/lab run`: what COMMAND gets, what it prints, its status. ending.py has how a run ends."""

import os
import stat

from lab.suites import Failure, contains, equal, exactly

# The small kernel on one CPU boots in a third of the time; Debian's, and more CPUs, have tests of their own.
KERNELS = ("kunit",)
PLAIN = ("run", "--role", "plain", "--kernel", "kunit", "--smp", "1")


def test_output_and_status_are_the_commands_own(context):
    command = r"printf 'a\000b\377\n\nno newline'; printf 'and errors' >&2; exit 42"
    exactly(context.lab(*PLAIN, "--", "sh", "-c", command), b"a\0b\xff\n\nno newline", b"and errors", 42)


def test_success_is_silent(context):
    exactly(context.lab(*PLAIN, "true"), b"", b"", 0)


def test_a_signal_is_reported_as_shells_do(context):
    exactly(context.lab(*PLAIN, "--", "sh", "-c", "kill -9 $$"), b"", b"", 137)


def test_an_unknown_command_is_127(context):
    result = context.lab(*PLAIN, "no-such-program")
    equal((result.stdout, result.returncode), (b"", 127), "stdout and status")
    contains(result.stderr, b"no-such-program", "stderr")


def test_arguments_arrive_unchanged(context):
    arguments = ["", " two  words ", "it's", '"', "$HOME `id` \\", "line\nbreak\n", "*", "--smp", "ünïcode"]
    result = context.lab(*PLAIN, "python3", "-c", "import sys; print(sys.argv[1:])", *arguments)
    exactly(result, f"{arguments}\n".encode(), b"", 0)


def test_large_output_is_complete(context):
    command = "head -c 8000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2"
    result = context.lab(*PLAIN, "--", "sh", "-c", command)
    equal((result.stdout == b"x" * 8000000, result.stderr == b"y" * 100000, result.returncode), (True, True, 0),
          "all of stdout, all of stderr, status")


def test_standard_input_reaches_the_command(context):
    data = os.urandom(500000)
    file = context.directory / "input"
    file.write_bytes(data)
    with open(file, "rb") as stdin:
        exactly(context.lab(*PLAIN, "cat", stdin=stdin), data, b"", 0)


def test_short_standard_input_is_not_lost(context):
    """It has been sent and its sender has gone before the guest reads."""
    file = context.directory / "input"
    file.write_bytes(b"short\n")
    with open(file, "rb") as stdin:
        exactly(context.lab(*PLAIN, "--", "sh", "-c", "sleep 1; cat", stdin=stdin), b"short\n", b"", 0)


def test_output_files_can_be_opened_by_name(context):
    command = "echo one >/dev/stdout; echo two >/dev/stderr; echo three | tee /dev/stderr"
    exactly(context.lab(*PLAIN, "--", "sh", "-c", command), b"one\nthree\n", b"two\nthree\n", 0)


def test_share_is_readable_writable_and_executable(context):
    share = context.directory / "share"
    share.mkdir()
    (share / "text").write_text("from outside\n")
    program = share / "program"
    program.write_text("#!/bin/sh\ncat /mnt/share/text\necho from inside >/mnt/share/answer\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    exactly(context.lab(*PLAIN, "--share", share, "/mnt/share/program"), b"from outside\n", b"", 0)
    equal((share / "answer").read_text(), "from inside\n", "what it wrote")


def test_smp_and_mem_are_as_asked(context):
    result = context.lab(*PLAIN, "--smp", "3", "--mem", "700", "--", "sh", "-c", "nproc; grep MemTotal /proc/meminfo")
    processors, memory = result.stdout.decode().splitlines()
    equal(processors, "3", "processors")
    mebibytes = int(memory.split()[1]) >> 10
    if not 500 <= mebibytes <= 700:
        raise Failure(f"{mebibytes} MiB of 700")


def test_inside_is_root_with_the_tool_roots_programs(context):
    command = "id -u; pwd; for i in gcc lspci openssl python3; do command -v $i; done | wc -l; grep -c . /proc/self/mounts >/dev/null && echo proc"
    exactly(context.lab(*PLAIN, "--", "sh", "-c", command), b"0\n/root\n4\nproc\n", b"", 0)
