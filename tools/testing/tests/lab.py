# SPDX-License-Identifier: GPL-2.0
"""The contract of `tools/lab run`: what COMMAND prints and how it ends, and that nothing stays behind."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time

from lab.paths import CHECKOUT, cache_root
from lab.suites import Failure, contains, equal

# The small kernel boots in half the time; the Debian kernel has the driver's tests.
PLAIN = ("run", "--role", "plain", "--kernel", "kunit")
EXIT_TIMEOUT = 124
EXIT_LAB = 125


def expect(result, stdout, stderr, status):
    """Fail unless a finished lab printed and ended exactly so."""
    equal((result.stdout, result.stderr, result.returncode), (stdout, stderr, status), "stdout, stderr, status")


def descendants(pid):
    """A process and everything below it, as (pid, start time): pids are used again."""
    children, starts = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        starts[int(name)] = fields[19]
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add((one, starts.get(one)))
        todo += children.get(one, [])
    return found


def still_there(processes):
    """Those of the processes that have not ended; zombies have."""
    left = []
    for pid, start in processes:
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            if fields[19] == start and fields[0] != "Z":
                left.append(pid)
        except OSError:
            pass
    return left


def files():
    """What a run might leave: temporary files, entries of the cache, mounts. Logs are meant to stay."""
    cache = {path for kind in cache_root().iterdir() if kind.name not in ("logs", "build", "cargo", "mnt")
             for path in ([kind, *kind.iterdir()] if kind.is_dir() else [kind])}
    temporary = {path for path in os.listdir("/tmp") if not path.startswith("lab-test-")}
    with open("/proc/self/mounts") as mounts:
        return cache, temporary, mounts.read(), os.listdir(cache_root() / "mnt")


def running(context, *arguments):
    """A lab whose guest has begun its COMMAND, and its processes."""
    process = context.start(*PLAIN, *arguments, "--", "sh", "-c", "echo begun; sleep 1000")
    line = process.stdout.readline()
    if line != b"begun\n":
        raise Failure(f"the guest did not begin: {line!r} {process.communicate()[1]!r}")
    return process, descendants(process.pid)


def runs(pid, program):
    """Does the process run `program`?"""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip() == program[:15]
    except OSError:
        return False


def find(processes, program):
    """The pid among `processes` that runs `program`."""
    for pid, _ in processes:
        if runs(pid, program):
            return pid
    raise Failure(f"no {program} among the lab's processes")


def assert_gone(processes):
    """The processes end within two seconds."""
    end = time.monotonic() + 2
    while still_there(processes):
        if time.monotonic() > end:
            raise Failure(f"still running: {still_there(processes)}")
        time.sleep(0.05)


def test_output_and_status_are_the_commands_own(context):
    command = r"printf 'a\000b\377\n\nno newline'; printf 'and errors' >&2; exit 42"
    expect(context.lab(*PLAIN, "--", "sh", "-c", command), b"a\0b\xff\n\nno newline", b"and errors", 42)


def test_success_is_silent(context):
    expect(context.lab(*PLAIN, "true"), b"", b"", 0)


def test_a_signal_is_reported_as_shells_do(context):
    expect(context.lab(*PLAIN, "--", "sh", "-c", "kill -9 $$"), b"", b"", 137)


def test_an_unknown_command_is_127(context):
    result = context.lab(*PLAIN, "no-such-program")
    equal((result.stdout, result.returncode), (b"", 127), "stdout and status")
    contains(result.stderr, b"no-such-program", "stderr")


def test_arguments_arrive_unchanged(context):
    arguments = ["", " two  words ", "it's", '"', "$HOME `id` \\", "line\nbreak\n", "*", "--smp", "ünïcode"]
    result = context.lab(*PLAIN, "python3", "-c", "import sys; print(sys.argv[1:])", *arguments)
    expect(result, f"{arguments}\n".encode(), b"", 0)


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
        expect(context.lab(*PLAIN, "cat", stdin=stdin), data, b"", 0)


def test_short_standard_input_is_not_lost(context):
    """It has been sent and its sender has gone before the guest reads."""
    file = context.directory / "input"
    file.write_bytes(b"short\n")
    with open(file, "rb") as stdin:
        expect(context.lab(*PLAIN, "--", "sh", "-c", "sleep 1; cat", stdin=stdin), b"short\n", b"", 0)


def test_output_files_can_be_opened_by_name(context):
    command = "echo one >/dev/stdout; echo two >/dev/stderr; echo three | tee /dev/stderr"
    expect(context.lab(*PLAIN, "--", "sh", "-c", command), b"one\nthree\n", b"two\nthree\n", 0)


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
    expect(context.lab(*PLAIN, "--", "sh", "-c", "sleep 500 & echo done"), b"done\n", b"", 0)
    if time.monotonic() - start > 60:
        raise Failure("it waited for the daemon")


def test_share_is_readable_writable_and_executable(context):
    share = context.directory / "share"
    share.mkdir()
    (share / "text").write_text("from outside\n")
    program = share / "program"
    program.write_text("#!/bin/sh\ncat /mnt/share/text\necho from inside >/mnt/share/answer\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    expect(context.lab(*PLAIN, "--share", share, "/mnt/share/program"), b"from outside\n", b"", 0)
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
    expect(context.lab(*PLAIN, "--", "sh", "-c", command), b"0\n/root\n4\nproc\n", b"", 0)


def test_timeout_ends_a_command_that_does_not(context):
    start = time.monotonic()
    result = context.lab(*PLAIN, "--timeout", "30", "--", "sh", "-c", "echo begun; sleep 1000")
    equal((result.stdout, result.returncode), (b"begun\n", EXIT_TIMEOUT), "stdout and status")
    contains(result.stderr, b"timed out after 30 s", "stderr")
    if time.monotonic() - start > 40:
        raise Failure(f"took {time.monotonic() - start:.0f} s")


def test_timeout_ends_a_guest_that_hangs(context):
    process, processes = running(context, "--timeout", "30")
    os.kill(find(processes, "qemu-system-x86_64"), signal.SIGSTOP)
    errors = process.communicate(timeout=60)[1]
    equal(process.returncode, EXIT_TIMEOUT, "status")
    contains(errors, b"timed out", "stderr")
    assert_gone(processes)


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
    process = context.start(*PLAIN, "echo", "done")
    qemu = None
    while qemu is None:
        time.sleep(0.05)
        try:
            qemu = find(descendants(process.pid), "qemu-system-x86_64")
        except Failure:
            pass
    os.kill(qemu, signal.SIGSTOP)
    output, errors = process.communicate(timeout=120)
    equal((output, process.returncode), (b"done\n", 0), "stdout and status")
    contains(errors, b"the guest kernel hung while booting; starting it again", "stderr")


def test_death_of_qemu_is_an_error(context):
    process, processes = running(context)
    os.kill(find(processes, "qemu-system-x86_64"), signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]
    equal(process.returncode, EXIT_LAB, "status")
    contains(errors, b"qemu ended with status -9", "stderr")
    assert_gone(processes)


def test_death_of_the_emulator_is_an_error(context):
    process = context.start("run", "--driver", "none", "--", "sh", "-c", "echo begun; sleep 1000")
    equal(process.stdout.readline(), b"begun\n", "stdout")
    processes = descendants(process.pid)
    os.kill(find(processes, "psp-emu"), signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]
    equal(process.returncode, EXIT_LAB, "status")
    contains(errors, b"psp-emu ended with status -9", "stderr")
    assert_gone(processes)


def ended_by(context, signum, to_group=False):
    """Send a signal to a running lab; everything must be gone."""
    process, processes = running(context)
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
    first, processes = running(context)
    expect(context.lab(*PLAIN, "echo", "second"), b"second\n", b"", 0)
    equal(first.poll(), None, "the first, meanwhile")
    first.terminate()
    first.communicate(timeout=30)
    assert_gone(processes)


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
        ("run",): "no COMMAND given",
        ("run", "--role", "guest", "true"): "--role guest is not supported yet",
        ("run", "--seal", "no", "true"): "--seal is not supported yet",
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
    }
    for arguments, message in cases.items():
        result = context.lab("run", *arguments, "true")
        equal((result.stdout, result.returncode), (b"", EXIT_LAB), f"stdout and status of {arguments}")
        contains(result.stderr.decode(), message, f"stderr of {arguments}")
    equal([path.name for path in foreign.iterdir()], ["file"], "the foreign directory")


def test_a_second_user_of_a_psp_is_refused(context):
    state = ("--state", context.directory / "state")
    first = context.start("run", "--driver", "none", *state, "--", "sh", "-c", "echo begun; sleep 1000")
    equal(first.stdout.readline(), b"begun\n", "the first")
    second = context.lab("run", "--driver", "none", *state, "true")
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


def read_until(terminal, end):
    """What a terminal shows up to `end`, or all of it when the other side closes."""
    output = b""
    try:
        while end not in output:
            output += os.read(terminal, 4096)
    except OSError:  # closed
        pass
    return output


def elsewhere(context, mirror):
    """An environment with an empty cache and that mirror."""
    return {**os.environ, "XDG_CACHE_HOME": str(context.directory), "DEBIAN_MIRROR": mirror}


def tool_roots(context):
    """What is left of a tool root that could not be made."""
    return [path for path in (context.directory / "linux-sev-rust/toolroot").iterdir() if path.is_dir()]


def test_without_a_network_the_lab_says_so(context):
    result = context.lab(*PLAIN, "true", env=elsewhere(context, "http://127.0.0.1:9/debian"))
    equal((result.stdout, result.returncode), (b"", EXIT_LAB), "stdout and status")
    contains(result.stderr, b"Could not connect to 127.0.0.1:9", "stderr")
    equal(tool_roots(context), [], "tool roots")


def test_setting_up_can_be_interrupted(context):
    with socket.create_server(("127.0.0.1", 0)) as mirror:  # takes connections and never answers
        url = f"http://127.0.0.1:{mirror.getsockname()[1]}/debian"
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


def test_shell_gives_a_terminal(context):
    ours, theirs = os.openpty()
    process = context.start("shell", "--role", "plain", stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
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
    process = context.start("shell", "--role", "plain", stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
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
    process = context.start("shell", "--role", "plain", stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    read_until(ours, b"# ")
    processes = descendants(process.pid)
    os.close(ours)
    process.wait(timeout=30)
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
    # What others take away meanwhile is theirs; mounts are compared as text, the rest by what is new.
    cache, temporary, mounts, mountpoint = files()
    equal((cache - before[0], temporary - before[1], mounts, mountpoint), (set(), set(), *before[2:]), "what is new")


test_nothing_is_left_on_disk.alone = True
