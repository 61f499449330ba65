# SPDX-License-Identifier: GPL-2.0
"""Storms of `sev-kvm` for the suites: how long, with which seed, and how to read what they print."""

import os
import re

from .suites import SPLATS, Failure

# Parallel processes of each kind.
PROCESSES = 8

# What lockdep says of the C code when a process is killed inside KVM_CREATE_VM: sev_vm_destroy() wants a lock that the way
# out of a failed creation does not take, and that nobody else can want by then.
_KVMS_OWN = re.compile(r"^.*cut here.*\n.*WARNING: arch/x86/kvm/svm/sev\.c:\d+ at sev_vm_destroy\+(?:.*\n)+?.*kvm_dev_ioctl"
                       r"(?:.*\n)+?.*end trace.*\n?", re.MULTILINE)


def number(variable, default):
    """A number from the environment (Documentation/testing.rst)."""
    return int(os.environ.get(variable) or default)


def command(seed, seconds, launchers, callers, end):
    """The command for a storm; `end` is what happens to its processes, "kill" or "let"."""
    return f"/mnt/share/sev-kvm storm {seed} {seconds} {launchers} {callers} {end}"


def answers(lines):
    """What was answered how often: {(call, errno, status): count}; the status is "-" where the firmware gave none."""
    matches = [re.fullmatch(r"(\w+) (\w+) (-|other|0x[0-9a-f]+|0) (\d+)", line) for line in lines]
    return {match.groups()[:3]: int(match[4]) for match in matches if match}


def check_answers(lines, seed, allowed):
    """Fail unless guests were launched, and everything else was answered as `allowed` says; how many were launched."""
    counts = answers(lines)
    bad = {what: count for what, count in counts.items() if what[1] != "OK" and not allowed(*what)}
    if bad:
        raise Failure(f"seed {seed}: {bad}")
    launched = counts.get(("launch_finish", "OK", "0"), 0)
    if not launched:
        raise Failure(f"seed {seed}: no guest was launched: {counts}")
    return launched


def complaints(log):
    """Lines of the kernel's log that tell of a mistake, KVM's own left out."""
    return [line for line in _KVMS_OWN.sub("", log).splitlines() if re.search(SPLATS, line)]
