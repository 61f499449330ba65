# SPDX-License-Identifier: GPL-2.0
"""How a run ends: timeouts, panics, signals, deaths; and that nothing stays behind, whichever it was."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab.paths import CHECKOUT, cache_root
from lab.processes import assert_gone, descendants, find, parent, running, runs, still_there
from lab.suites import Failure, contains, equal, exactly

# The small kernel on one CPU boots in a third of the time; Debian's, and more CPUs, have tests of their own.
KERNELS = ("kunit",)
PLAIN = ("run", "--role", "plain", "--kernel", "kunit", "--smp", "1")
EXIT_TIMEOUT = 124
EXIT_LAB = 125


def files():
    """What a run might leave: temporary files, entries of the cache, mounts. Logs are meant to stay."""
    cache = {path for kind in cache_root().iterdir() if kind.name not in ("logs", "build", "cargo", "mnt")
             for path in ([kind, *kind.iterdir()] if kind.is_dir() else [kind])}
    temporary = {path for path in os.listdir("/tmp") if not path.startswith("lab-test-")}
    with open("/proc/self/mounts") as mounts:
        return cache, temporary, set(mounts), set(os.listdir(cache_root() / "mnt"))


def test_a_reader_that_leaves_ends_the_run(context):
    process = context.start(*PLAIN, "yes")
    process.stdout.read(10)
    processes = descendants(process.pid)
    process.stdout.close()
    equal(process.wait(timeout=30), 128 + signal.SIGPIPE, "status")
    process.stderr.close()
    assert_gone(processes)


def test_a_daemon_does_not_keep_the_run(context):
    start = time.monotonic()
    exactly(context.lab(*PLAIN, "--", "sh", "-c", "sleep 500 & echo done"), b"done\n", b"", 0)
    if time.monotonic() - start > 60:
        raise Failure("it waited for the daemon")


def test_timeout_ends_a_command_that_does_not(context):
    result = context.lab(*PLAIN, "--timeout", "5", "--", "sh", "-c", "echo begun; sleep 1000")
    equal((result.stdout, result.returncode), (b"begun\n", EXIT_TIMEOUT), "stdout and status")
    contains(result.stderr, b"timed out after 5 s", "stderr")


def test_timeout_says_what_the_kernel_knows_of_a_hang(context):
    lines = ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "RIP: 0010:somewhere+0x1/0x2", "RIP: 0010:elsewhere+0x3/0x4")
    script = "".join(f"echo '<3>{line}' > /dev/kmsg; " for line in lines)
    result = context.lab(*PLAIN, "--timeout", "5", "--", "sh", "-c", f"{script} sleep 1000")
    contains(result.stderr, b"lab: the guest kernel said: watchdog: BUG: soft lockup - CPU#0 stuck for 22s!, RIP: 0010:somewhere+0x1/0x2\n",
             "stderr")


def test_nothing_of_the_console_is_lost_while_the_lab_is_busy(context):
    """It is looked at only after the VM has ended; nothing that the kernel said may be lost by then."""
    lines = [f"line {number:04}, of which there are many" for number in range(200)]
    script = "echo begun; sleep 3; for n in $(seq 0 199); do printf '<1>line %04d, of which there are many\n' $n >/dev/kmsg; done"
    process = context.start(*PLAIN, "--", "sh", "-c", f"{script}; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
    equal(process.stdout.readline(), b"begun\n", "stdout")
    processes = descendants(process.pid)
    qemu = find(processes, "qemu-system-x86_64")
    lab = parent(qemu)
    os.kill(lab, signal.SIGSTOP)
    while qemu in still_there(processes):
        time.sleep(0.1)
    os.kill(lab, signal.SIGCONT)
    errors = process.communicate(timeout=60)[1].decode()
    equal(process.returncode, EXIT_LAB, "status")
    contains(errors, "the guest kernel panicked: sysrq triggered crash", "stderr")
    console = Path(re.search(r"(/\S*console\.log)", errors)[1]).read_text(errors="replace")
    equal(re.findall(r"line \d{4}, of which there are many", console), lines, "what the kernel said")
    assert_gone(processes)


def test_timeout_ends_a_guest_that_hangs(context):
    process, processes = running(context, *PLAIN, "--timeout", "10")
    os.kill(find(processes, "qemu-system-x86_64"), signal.SIGSTOP)
    errors = process.communicate(timeout=60)[1]
    equal(process.returncode, EXIT_TIMEOUT, "status")
    contains(errors, b"timed out", "stderr")
    assert_gone(processes)


def stopped_at_boot(context, *arguments):
    """A lab whose QEMU has just been started, and stopped; and QEMU's pid."""
    process = context.start(*PLAIN, *arguments)
    while True:
        time.sleep(0.05)
        try:
            qemu = find(descendants(process.pid), "qemu-system-x86_64")
        except Failure:
            continue
        os.kill(qemu, signal.SIGSTOP)
        return process, qemu


def test_the_time_of_a_boot_does_not_count(context):
    process, qemu = stopped_at_boot(context, "--timeout", "10", "echo", "done")
    time.sleep(11)
    os.kill(qemu, signal.SIGCONT)
    output = process.communicate(timeout=120)[0]
    equal((output, process.returncode), (b"done\n", 0), "stdout and status")


def test_a_panic_is_named_and_its_log_kept(context):
    result = context.lab(*PLAIN, "--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 100")
    equal(result.returncode, EXIT_LAB, "status")
    contains(result.stderr, b"the guest kernel panicked: sysrq triggered crash", "stderr")
    log = result.stderr.partition(b"console log: ")[2].splitlines()[0]
    with open(log, "rb") as file:
        contains(file.read(), b"sysrq_handle_crash", "the trace in the console log")


def test_a_guest_that_powers_off_is_an_error(context):
    result = context.lab(*PLAIN, "--", "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 100")
    equal(result.returncode, EXIT_LAB, "status")
    contains(result.stderr, b"qemu ended with status 0 while the guest was running", "stderr")


def test_a_kernel_that_hangs_at_boot_is_started_again(context):
    process, _ = stopped_at_boot(context, "echo", "done")
    output, errors = process.communicate(timeout=120)
    equal((output, process.returncode), (b"done\n", 0), "stdout and status")
    contains(errors, b"the guest kernel hung while booting; starting it again", "stderr")


def test_death_of_qemu_is_an_error(context):
    process, processes = running(context, *PLAIN)
    os.kill(find(processes, "qemu-system-x86_64"), signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]
    equal(process.returncode, EXIT_LAB, "status")
    contains(errors, b"qemu ended with status -9", "stderr")
    assert_gone(processes)


def test_death_of_the_emulator_is_an_error(context):
    process = context.start("run", "--driver", "none", *PLAIN[3:], "--", "sh", "-c", "echo begun; sleep 1000")
    equal(process.stdout.readline(), b"begun\n", "stdout")
    processes = descendants(process.pid)
    os.kill(find(processes, "psp-emu"), signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]
    equal(process.returncode, EXIT_LAB, "status")
    contains(errors, b"psp-emu ended with status -9", "stderr")
    assert_gone(processes)


def ended_by(context, signum, to_group=False):
    """Send a signal to a running lab; everything must be gone."""
    process, processes = running(context, *PLAIN)
    if to_group:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    process.communicate(timeout=30)
    assert_gone(processes)
    return process.returncode


def test_ctrl_c_ends_everything(context):
    equal(ended_by(context, signal.SIGINT, to_group=True), 128 + signal.SIGINT, "status")


def test_sigterm_ends_everything(context):
    equal(ended_by(context, signal.SIGTERM), 128 + signal.SIGTERM, "status")


def test_sighup_ends_everything(context):
    equal(ended_by(context, signal.SIGHUP), 128 + signal.SIGHUP, "status")


def test_sigkill_of_the_lab_ends_everything(context):
    equal(ended_by(context, signal.SIGKILL), -signal.SIGKILL, "status")


def test_two_labs_run_at_the_same_time(context):
    first, processes = running(context, *PLAIN)
    exactly(context.lab(*PLAIN, "echo", "second"), b"second\n", b"", 0)
    equal(first.poll(), None, "the first, meanwhile")
    first.terminate()
    first.communicate(timeout=30)
    assert_gone(processes)


def test_the_tests_labs_end_with_the_runner(context):
    program = """
import os, sys
from lab.suites import Context
Context(None, ".").start("run", "--role", "plain", "sleep", "1000", stdout=None, stderr=None)
sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tools/testing"), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, env=environment) as runner:
        processes = set()
        while not any(runs(pid, "qemu-system-x86_64") for pid, _ in processes):
            time.sleep(0.1)
            processes = descendants(runner.pid)
        runner.kill()
    assert_gone(processes)


def test_nothing_is_left_on_disk(context):
    context.lab(*PLAIN, "true")
    before = files()
    context.lab(*PLAIN, "true")
    context.lab(*PLAIN, "--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 100")
    ended_by(context, signal.SIGKILL)
    # Whatever others take away meanwhile is theirs.
    new = [after - old for after, old in zip(files(), before)]
    equal(new, [set()] * len(before), "new in cache, /tmp, mounts, mount point")


for test in (test_timeout_ends_a_command_that_does_not, test_timeout_ends_a_guest_that_hangs,
             test_the_time_of_a_boot_does_not_count, test_a_kernel_that_hangs_at_boot_is_started_again):
    test.waits = True

test_nothing_is_left_on_disk.alone = True
