# SPDX-License-Identifier: GPL-2.0
"""What the lab refuses, and how it fails: options, PSP state, kernel trees, network, cache."""

import contextlib
import os
import signal
import socket
from pathlib import Path

from lab.processes import assert_gone, descendants, find
from lab.suites import contains, equal

# The small kernel on one CPU boots in a third of the time; Debian's, and more CPUs, have tests of their own.
KERNELS = ("kunit",)
PLAIN = ("run", "--role", "plain", "--kernel", "kunit", "--smp", "1")
HOST = ("run", "--driver", "none", "--kernel", "kunit", "--smp", "1")
EXIT_LAB = 125


def elsewhere(context, mirror):
    """An environment with an empty cache and that mirror."""
    return {**os.environ, "XDG_CACHE_HOME": str(context.directory), "DEBIAN_MIRROR": mirror}


def tool_roots(context):
    """What is left of a tool root that could not be made."""
    return [path for path in (context.directory / "linux-sev-rust/toolroot").iterdir() if path.is_dir()]


def test_bad_command_lines_are_refused(context):
    cases = {
        ("run", "--no-such-option", "true"): "--no-such-option",
        ("run", "--role", "king", "true"): "king",
        ("run", "--driver", "c", "true"): "--driver",
        ("run", "--smp", "0", "true"): "0 is not between 1 and 64",
        ("run", "--smp", "two", "true"): "two",
        ("run", "--mem", "1", "true"): "1 is not between",
        ("run", "--timeout", "-1", "true"): "-1",
        ("run", "--share", "/no/such/directory", "true"): "/no/such/directory is not a directory",
        ("run", "--model", "8086", "true"): "8086",
        ("run", "--memory", "soup", "true"): "soup",
        ("run", "--latency", "late", "true"): "late",
        ("run",): "no COMMAND given",
        ("run", "--seal", "no", "true"): "--seal needs --role guest",
        ("run", "--role", "plain", "--seal", "yes", "true"): "--seal needs --role guest",
        ("run", "--role", "guest", "--seal", "perhaps", "true"): "perhaps",
        ("run", "--expect-private", "0011223344556677", "true"): "--expect-private needs --role guest",
        ("run", "--role", "guest", "--expect-private", "00112233445566", "true"): "00112233445566 is shorter than 8 bytes",
        ("run", "--role", "guest", "--expect-private", "secret", "true"): "secret",
        ("run", "--vlek", "true"): "--vlek needs --role guest",
        ("run", "--role", "guest", "--model", "rome", "--vlek", "true"): "--vlek needs a guest that can ask the firmware: rome has no SNP",
        ("run", "--role", "guest", "--model", "naples", "--fault", "busy", "true"): "--fault needs a guest that can ask the firmware",
        ("run", "--sev-status", "1", "true"): "--sev-status needs --role guest",
        ("run", "--role", "guest", "--sev-status", "0x5", "true"): "0x5: the lab's guest is a SEV guest, and no SEV-ES",
        ("run", "--role", "guest", "--sev-status", "0", "true"): "0: the lab's guest is a SEV guest",
        ("run", "--role", "guest", "--sev-status", "0x10000000000000001", "true"): "0x10000000000000001",
        ("run", "--role", "host", "--map", "map.png", "true"): "--map needs --role guest",
        ("run", "--role", "guest", "--map", "map.jpeg", "true"): "--map map.jpeg: it will be a PNG file",
        ("run", "--role", "guest", "--mem", "2049", "true"): "--role guest has at most 2048 MiB of memory",
        ("run", "--nested", "true"): "--nested is not supported yet",
        ("shell",): "needs a terminal",
        ("test", "no-such-suite"): "no suite no-such-suite",
        ("dance",): "dance",
        (): "usage",
    }
    for arguments, message in cases.items():
        result = context.lab(*arguments)
        equal((result.stdout, result.returncode), (b"", 2), f"stdout and status of {arguments}")
        contains(result.stderr.decode(), message, f"stderr of {arguments}")


def test_a_bad_psp_is_refused(context):
    foreign = context.directory / "foreign"
    foreign.mkdir()
    (foreign / "file").write_text("somebody's")
    cases = {
        ("--fault", "no-such-fault"): "no-such-fault",
        ("--state", foreign): f"{foreign}: not empty and no state directory",
        ("--state", foreign / "file" / "below"): "Not a directory",
        ("--trace", foreign / "none" / "trace"): "No such file or directory",
        ("--transcripts", foreign / "file"): "File exists",
    }
    for arguments, message in cases.items():
        result = context.lab(*HOST, *arguments, "true")
        equal((result.stdout, result.returncode), (b"", EXIT_LAB), f"stdout and status of {arguments}")
        contains(result.stderr.decode(), message, f"stderr of {arguments}")
    equal([path.name for path in foreign.iterdir()], ["file"], "the foreign directory")


def test_a_second_user_of_a_psp_is_refused(context):
    state = ("--state", context.directory / "state")
    first = context.start(*HOST, *state, "--", "sh", "-c", "echo begun; sleep 1000")
    equal(first.stdout.readline(), b"begun\n", "the first")
    second = context.lab(*HOST, *state, "true")
    equal((second.stdout, second.returncode), (b"", EXIT_LAB), "stdout and status of the second")
    contains(second.stderr, b"state: in use by another emulator", "stderr of the second")
    first.terminate()
    first.communicate(timeout=30)


def test_a_cache_that_cannot_be_written_is_an_error(context):
    result = context.lab(*PLAIN, "true", env={**os.environ, "XDG_CACHE_HOME": "/proc/sys"})
    equal((result.stdout, result.returncode), (b"", EXIT_LAB), "stdout and status")
    contains(result.stderr, b"lab: /proc/sys/linux-sev-rust", "stderr")


def test_a_wrong_kernel_tree_is_refused(context):
    result = context.lab(*PLAIN, "true", env={**os.environ, "KDIR": str(context.directory)})
    equal((result.stdout, result.returncode), (b"", EXIT_LAB), "stdout and status")
    contains(result.stderr.decode(), f"KDIR={context.directory} is not a kernel tree", "stderr")


def test_without_a_network_the_lab_says_so(context):
    result = context.lab(*PLAIN, "true", env=elsewhere(context, "http://127.0.0.1:9/debian"))
    equal((result.stdout, result.returncode), (b"", EXIT_LAB), "stdout and status")
    contains(result.stderr, b"Could not connect to 127.0.0.1:9", "stderr")
    equal(tool_roots(context), [], "tool roots")


@contextlib.contextmanager
def silent_mirror():
    """A mirror that takes connections and never answers; and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as mirror:
        yield mirror, f"http://127.0.0.1:{mirror.getsockname()[1]}/debian"


def test_a_kernel_tree_needs_none_from_the_archive(context):
    """An archive drops its kernels one day. Without KDIR the tool root is made with a kernel, with KDIR without."""
    for kdir, wanted in ({}, True), ({"KDIR": "/some/linux"}, False):
        with silent_mirror() as (mirror, url):
            process = context.start(*PLAIN, "true", env={**elsewhere(context, url), **kdir})
            connection, _ = mirror.accept()
            debstrap = find(descendants(process.pid), "mmdebstrap")
            arguments = Path(f"/proc/{debstrap}/cmdline").read_text()
            process.terminate()
            process.communicate(timeout=30)
            connection.close()
        contains(arguments, "toolroot-setup.sh", "mmdebstrap's arguments")
        equal("toolroot-kernel.sh" in arguments, wanted, f"the kernel with {kdir}")


def test_setting_up_can_be_interrupted(context):
    with silent_mirror() as (mirror, url):
        for signum, status in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
            process = context.start(*PLAIN, "true", env=elsewhere(context, url))
            connection, _ = mirror.accept()
            processes = descendants(process.pid)
            find(processes, "mmdebstrap")
            process.send_signal(signum)
            process.communicate(timeout=30)
            connection.close()
            equal(process.returncode, status, "status")
            assert_gone(processes)
            if signum == signal.SIGTERM:
                equal(tool_roots(context), [], "tool roots")
