# SPDX-License-Identifier: GPL-2.0
"""The lab's guest role: a kernel that knows it is a SEV guest, and private memory that nobody else can read."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import struct
import subprocess
import threading
from types import SimpleNamespace

from lab.errors import LabError
from lab.guest_memory import GuestMemory, describe
from lab.host_view import HostView
from lab.paths import CHECKOUT
from lab.processes import assert_gone, find, running
from lab.qmp import Gone, Qmp
from lab.session import Session
from lab.suites import Failure, contains, equal
from lab.terminals import read_until

KERNELS = ("kunit", "debian")
GUEST = ("run", "--role", "guest", "--driver", "none")
QUICK = (*GUEST, "--kernel", "kunit", "--mem", "256")
EXIT_LAB = 125


def test_the_distributions_kernel_is_a_sev_guest(context):
    """On more CPUs than one, with all of its devices; nothing has taken private memory for a disk."""
    script = "nproc; ls /dev/pmem* 2>/dev/null; modprobe virtio_pmem 2>/dev/null && echo taken; dmesg"
    result = context.lab(*GUEST, "--smp", "4", "--", "sh", "-c", script)
    equal(result.returncode, 0, f"status: {result.stderr}")
    lines = result.stdout.decode().splitlines()
    equal(lines[0], "4", "processors")
    equal(lines[1].startswith("["), True, f"no driver for private memory: {lines[1]}")
    for words in ("Memory Encryption Features active: AMD SEV", "system is using DMA bounce buffers"):
        contains(result.stdout.decode(), words, "dmesg")


# What the first CPU has in SEV_STATUS.
READ_STATUS = "import os; print(os.pread(os.open('/dev/cpu/0/msr', os.O_RDONLY), 8, 0xc0010131).hex())"


def test_sev_status_is_as_asked(context):
    """Bits that nobody has defined, too."""
    result = context.lab(*QUICK, "--smp", "1", "--sev-status", "0x8000000100010001", "--", "python3", "-c", READ_STATUS)
    equal((result.stdout, result.returncode), (b"0100010001000080\n", 0), f"stdout and status: {result.stderr}")


def markers(context, *options):
    """What the host sees of markers in a guest's memory: its counts, whether a device reads one, and zeros around it."""
    share = context.directory / "share"
    share.mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / "tools/testing/guest/markers.py", share)
    result = context.lab(*QUICK, *options, "--share", share, "--", "python3", "/mnt/share/markers.py")
    equal(result.returncode, 0, f"status: {result.stderr}")
    counts, page = result.stdout.decode().splitlines()
    _, marker, _, zeros = page.split()
    return counts, marker == "True", int(zeros)


def test_private_memory_is_private(context):
    """A device that is given memory nobody has shared reads garbage: not what is there, and not zeros."""
    counts, marker, zeros = markers(context)
    equal((counts, marker), ("shared 0 private 64", False), "markers")
    equal(zeros < 100, True, f"{zeros} bytes of a page are zero")


def test_without_sealing_all_is_visible(context):
    counts, marker, zeros = markers(context, "--seal", "no")
    equal((counts, marker, zeros > 4000), ("shared 64 private 64", True, True), "markers, and the rest of the page")


# Reads everything in parallel, writes a copy, and prints the sum of what it has read.
COPY = """
cd /mnt/share
for i in 1 2 3 4; do cp in$i out$i & done
wait
sha256sum in* | sort
"""


def test_input_and_output_are_correct_after_sealing(context):
    share = context.directory / "share"
    share.mkdir()
    contents = {number: os.urandom(3_000_001) for number in range(1, 5)}
    for number, data in contents.items():
        (share / f"in{number}").write_bytes(data)
    result = context.lab(*QUICK, "--smp", "4", "--share", share, "--", "sh", "-c", COPY)
    equal(result.returncode, 0, f"status: {result.stderr}")
    sums = {line.split()[1]: line.split()[0] for line in result.stdout.decode().splitlines()}
    for number, data in contents.items():
        equal(sums[f"in{number}"], hashlib.sha256(data).hexdigest(), f"what the guest read of file {number}")
        equal((share / f"out{number}").read_bytes() == data, True, f"what the guest wrote to file {number} is right")


def test_what_must_be_private_is_looked_for(context):
    """A file of the guest's, then one that it also sends to the host; then nothing."""
    secret = os.urandom(16)
    keep = f"import sys; open('/tmp/s', 'wb').write(bytes(b ^ 255 for b in bytes.fromhex('{bytes(b ^ 255 for b in secret).hex()}')))"
    private = context.lab(*QUICK, "--expect-private", secret.hex(), "--", "python3", "-c", keep)
    equal((private.stdout, private.returncode), (b"", 0), f"stdout and status: {private.stderr}")
    public = context.lab(*QUICK, "--expect-private", secret.hex(), "--", "sh", "-c", f'python3 -c "{keep}"; cat /tmp/s')
    equal((public.stdout, public.returncode), (secret, EXIT_LAB), "stdout and status")
    contains(public.stderr, b"--expect-private: 1 of 1 are in shared memory", "stderr")
    nowhere = context.lab(*QUICK, "--expect-private", secret.hex(), "true")
    equal(nowhere.returncode, EXIT_LAB, "status")
    contains(nowhere.stderr, b"--expect-private: only 0 of 1 are in private memory", "stderr")
    unsealed = context.lab(*QUICK, "--seal", "no", "--expect-private", secret.hex(), "true")
    contains(unsealed.stderr, b"4 of the guest's VMPCKs are in shared memory", "stderr without sealing")
    careless = context.lab(*QUICK, "--seal", "no", "true")
    equal((careless.returncode, careless.stderr), (0, b""), "status and stderr when nobody asks")


class Sealed(Session):
    """The end of a guest's session, with memory in which everything is `found`."""

    def __init__(self, found, secrets, patterns=(), seal=True):
        self.spec = {"expect_private": patterns, "seal": seal, "secrets": secrets and {"file": secrets}}
        self.memory = SimpleNamespace(find=lambda wanted: (len(wanted), 0) if found else (0, len(wanted)))
        self.qmp = SimpleNamespace(stopped=contextlib.nullcontext)
        self.control = SimpleNamespace(status=0)


def complaint(session):
    try:
        session._check_private()
    except LabError as error:
        return str(error)
    return None


def test_the_keys_of_a_sealed_guest_are_always_looked_for(context):
    secrets = context.directory / "secrets"
    secrets.write_bytes(bytes(range(256)) * 16)
    leaked = "4 of the guest's VMPCKs are in shared memory"
    equal(complaint(Sealed(True, secrets)), leaked, "without a pattern")
    equal(complaint(Sealed(True, secrets, seal=False)), None, "without a pattern, where nothing is private")
    equal(complaint(Sealed(True, None)), None, "without keys")
    equal(complaint(Sealed(False, secrets, ["00" * 16])), None, "when all is private")


class FakeQmp:
    """The QEMU of a test without one."""

    def stopped(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def page_tables(self):
        return 0x8000001000, 5


def test_memory_that_cannot_be_sealed_is_an_error(context):
    memory = GuestMemory(describe(str(context.directory)), 1)
    orders = []

    def refuse():
        orders.append(memory.plugins_end.recv(100))
        memory.plugins_end.sendall(b"failed no room is left\n")

    plugin = threading.Thread(target=refuse)
    plugin.start()
    try:
        memory.seal(FakeQmp())
        raise Failure("it was sealed")
    except LabError as error:
        equal(str(error), "the plugin cannot seal the guest's memory: no room is left", "the error")
    plugin.join()
    equal(orders, [b"seal 8000001000 5 39\n"], "the order")


def test_a_qemu_that_is_gone_is_noticed(context):
    """Whatever it was asked for, and whoever of it was asked."""
    silent, answering = Qmp(), Qmp()
    answering.qemus_end.sendall(b'{"QMP": {}}\n{"return": {}}\n{"event": "STOP"}\n{"return": {"status": "paused"}}\n')
    equal(answering.execute("query-status"), {"status": "paused"}, "the answer")
    memory = GuestMemory(describe(str(context.directory)), 1)
    for end in (silent.qemus_end, answering.qemus_end, memory.plugins_end):
        end.close()
    for what, ask in {"silent": lambda: silent.execute("stop"), "answering": lambda: answering.execute("stop"),
                      "plugin": lambda: memory.seal(FakeQmp())}.items():
        try:
            raise Failure(f"{what}: {ask()}")
        except Gone:
            pass


# Where the kernel's bounce buffers are.
BOUNCE = re.compile(r"software IO TLB: mapped \[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\]")


def png_size(path):
    """Width and height of a PNG file."""
    header = path.read_bytes()[:24]
    equal((header[:8], header[12:16]), (b"\x89PNG\r\n\x1a\n", b"IHDR"), f"the beginning of {path.name}")
    return struct.unpack(">II", header[16:])


def test_shared_pages_are_drawn(context):
    """When asked for and in the end; the bounce buffers are shared, and next to nothing else is."""
    picture = context.directory / "map.png"
    script = "exec 9<>/dev/lab-host; echo map >&9; read -r answer <&9; echo $answer; dmesg"
    result = context.lab(*QUICK, "--map", picture, "--", "sh", "-c", script)
    equal(result.returncode, 0, f"status: {result.stderr}")
    asked, _, log = result.stdout.decode().partition("\n")
    equal(asked, "mapped map-1.png", "the answer")
    for name in ("map.png", "map-1.png"):
        width, height = png_size(context.directory / name)
        equal((width, height > 65536 // width), (512, True), "size: a pixel for each page, and a legend")
    _, *summaries = re.split(r"^lab: map.*png:\n", result.stderr.decode(), flags=re.MULTILINE)
    equal(len(summaries), 2, f"summaries in {result.stderr}")
    first, last = (int(address, 16) for address in BOUNCE.search(log).groups())
    for summary in summaries:
        pages = {state: int(count) for state, count in re.findall(r"^(.*?) +(\d+) pages +[0-9.]+ MiB$", summary, re.MULTILINE)}
        equal(sum(pages.values()), 65536, f"pages in {summary}")
        shared = pages["shared, unused"] + pages["shared, in use"]
        ranges = [tuple(int(address, 16) for address in found) for found in re.findall(r"^(0x[0-9a-f]+)-(0x[0-9a-f]+)", summary, re.MULTILINE)]
        equal(any(start <= first and last <= end + 1 for start, end in ranges), True, f"{first:#x}-{last:#x} is shared")
        equal(sum(end + 1 - start for start, end in ranges) // 4096, shared, "pages in ranges of shared pages")
        equal(0 < pages["shared, in use"] < shared < (last - first) // 4096 + 2000, True, f"shared pages: {pages}")


# Asks how many pages are shared: at first, while a driver shares one, and when its and our module have gone.
COUNT = """
exec 9<>/dev/lab-host
count() { echo shared-pages >&9; read -r answer <&9; echo "$answer"; }
count; modprobe sev_shared_pages_sample; count; rmmod sev_shared_pages_sample virtio_sev_shim; count
"""


def test_shared_pages_are_counted_from_outside(context):
    result = context.lab(*QUICK, "--driver", "rust", "--", "sh", "-c", COUNT)
    equal(result.returncode, 0, f"status: {result.stderr}")
    before, meanwhile, after = (int(line.removeprefix("shared ")) for line in result.stdout.decode().splitlines())
    equal((before > 16384, meanwhile, after), (True, before + 1, before), "bounce buffers, one more, none left")


def test_the_host_answers_requests(context):
    memory = GuestMemory(describe(str(context.directory)), 1)
    pattern = bytes(range(16, 32))
    with open(context.directory / "shared.ram", "r+b") as file:
        for address, data in (0x3ff8, pattern), (0x5000, pattern[:15]), (0x6000, pattern[:8] + b"another"):
            file.seek(address)
            file.write(data)
    answers = []
    view = HostView(memory, FakeQmp(), answers.append, lambda: "map-1.png", None, None)
    inverted, other = bytes(byte ^ 0xff for byte in pattern).hex(), "efeeedecebeae9e8"
    for request, answer in {
        f"find-complement {inverted}": "shared 1 private 1",
        f"find-complement {inverted} {other}{'00' * 8} {other}": "shared 2 private 2",
        f"device-read 0x3ff8 {len(pattern)}": pattern.hex(),
        "device-read 0xfffff 1": "00",
        "device-read 0xfffff 2": "error there is no memory at 0xfffff with 2 bytes",
        "device-read -1 1": "error there is no memory at -0x1 with 1 bytes",
        "device-read 0 -1": "error there is no memory at 0x0 with -1 bytes",
        "device-read 0 4097": "error at most 4096 bytes",
        "device-read ten 1": "error a number is none in device-read ten 1",
        "find-complement": "error no such request",
        "find-complement 00112233445566": "error 00112233445566 is shorter than 8 bytes",
        "map": "mapped map-1.png",
        "": "error no such request",
    }.items():
        for part in (request[:5], request[5:], "\n"):
            view.feed(part.encode())
        equal(answers, [f"{answer}\n".encode()], f"the answer to {request!r}")
        answers.clear()


def test_nothing_is_left_however_a_guest_ends(context):
    """The lab gets a signal, or is killed, or QEMU is."""
    for victim, signum, status in (("lab", signal.SIGTERM, 128 + signal.SIGTERM), ("lab", signal.SIGKILL, -signal.SIGKILL),
                                   ("qemu-system-x86_64", signal.SIGKILL, EXIT_LAB)):
        process, processes = running(context, *QUICK)
        os.kill(process.pid if victim == "lab" else find(processes, victim), signum)
        process.communicate(timeout=30)
        equal(process.returncode, status, f"status after {signum!r} to {victim}")
        assert_gone(processes)


def test_a_guest_has_a_shell(context):
    ours, theirs = os.openpty()
    process = context.start("shell", *QUICK[1:], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    read_until(ours, b"# ")
    os.write(ours, b"dmesg | grep -o 'active: AMD S'EV; exit 5\r")
    contains(read_until(ours, b"never"), b"active: AMD SEV", "what the shell shows")
    os.close(ours)
    equal(process.wait(timeout=60), 5, "status")
