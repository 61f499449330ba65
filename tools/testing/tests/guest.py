# SPDX-License-Identifier: GPL-2.0
"""The lab's guest role: a kernel that knows it is a SEV guest, and private memory that nobody else can read."""

import hashlib
import os
import shutil
import signal
import subprocess
import threading

from lab.errors import LabError
from lab.guest_memory import GuestMemory, describe
from lab.paths import CHECKOUT
from lab.processes import assert_gone, find, running
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
        equal(str(error), "the guest's memory cannot be sealed: no room is left", "the error")
    plugin.join()
    equal(orders, [b"seal 8000001000 5 39\n"], "the order")


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
