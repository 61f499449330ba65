# SPDX-License-Identifier: GPL-2.0
"""The lab's guest role: a kernel that knows it is a SEV guest."""

from lab.suites import contains, equal, exactly

KERNELS = ("kunit", "debian")
GUEST = ("run", "--role", "guest", "--driver", "none")
QUICK = (*GUEST, "--kernel", "kunit", "--mem", "256")

ACTIVE = "Memory Encryption Features active: AMD SEV"


def test_the_distributions_kernel_is_a_sev_guest(context):
    """On more CPUs than one, with all of its devices; nothing has taken private memory for a disk."""
    script = "nproc; ls /dev/pmem* 2>/dev/null; modprobe virtio_pmem 2>/dev/null && echo taken; dmesg"
    result = context.lab(*GUEST, "--smp", "4", "--", "sh", "-c", script)
    equal((result.stderr, result.returncode), (b"", 0), "stderr and status")
    lines = result.stdout.decode().splitlines()
    equal(lines[0], "4", "processors")
    equal(lines[1].startswith("["), True, f"no driver for private memory: {lines[1]}")
    contains(result.stdout.decode(), ACTIVE, "dmesg")
    contains(result.stdout.decode(), "Memory encryption is active and system is using DMA bounce buffers", "dmesg")


def test_success_is_silent(context):
    exactly(context.lab(*QUICK, "true"), b"", b"", 0)
