# SPDX-License-Identifier: GPL-2.0
"""Many guests of the stock KVM at once, killed at random moments: no ASID and no guest context may get lost.

SEV_STORM_SECONDS says how long a storm lasts, SEV_SEED which moments these are (Documentation/testing.rst).
"""

import json
import os
import random
import re

from lab.clients import sev_kvm
from lab.suites import SPLATS, Failure, contains, equal, watched

KERNELS = ("kunit", "debug")

SECONDS = int(os.environ.get("SEV_STORM_SECONDS", "10"))
LESS = (SECONDS + 1) // 2
LAUNCHERS = 8
# How often the ASIDs of a small processor are all taken.
ROUNDS = 20

# What lockdep says of the C code when a process is killed inside KVM_CREATE_VM: sev_vm_destroy() wants a lock that the way
# out of a failed creation does not take, and that nobody else can want by then.
KVMS_OWN = re.compile(r"^.*cut here.*\n.*WARNING: arch/x86/kvm/svm/sev\.c:\d+ at sev_vm_destroy\+(?:.*\n)+?.*kvm_dev_ioctl"
                      r"(?:.*\n)+?.*end trace.*\n?", re.MULTILINE)


def seed():
    """The seed of a storm: SEV_SEED, or any."""
    return int(os.environ.get("SEV_SEED") or random.randrange(1 << 32))


def host(context, script, *options, kernel="kunit"):
    """Run a script in a host with sev-kvm; the lines it printed."""
    result = context.lab("run", "--kernel", kernel, "--share", sev_kvm(context), *options, "--timeout", SECONDS + 300,
                         "--", "sh", "-c", watched(script), longer=SECONDS)
    if result.returncode:
        raise Failure(f"status {result.returncode}\n{result.stdout.decode()}\n{result.stderr.decode()}")
    return result.stdout.decode().splitlines()


def answers(lines):
    """What sev-kvm's storm counted: {(call, errno, status): how often}."""
    matches = [re.fullmatch(r"(\w+) (\w+) (-|other|0x[0-9a-f]+|0) (\d+)", line) for line in lines]
    return {match.groups()[:3]: int(match[4]) for match in matches if match}


def check_storm(lines, number, allowed=()):
    """Fail unless guests came and went, were killed, left nothing, and nothing was refused but what is `allowed`."""
    counts = answers(lines)
    bad = {what: count for what, count in counts.items() if what[1] != "OK" and what not in allowed}
    if bad:
        raise Failure(f"seed {number}: {bad}")
    contains(lines, "afterwards: guests 0", f"seed {number}: what is left")
    killed = int(next(line for line in lines if line.startswith("killed ")).split()[1])
    launched = counts.get(("launch_finish", "OK", "0"), 0)
    if not killed or not launched:
        raise Failure(f"seed {number}: {killed} processes killed, {launched} guests launched")
    print(f"     seed {number}: {killed} processes killed, {launched} guests launched", flush=True)


def storm(number, seconds=SECONDS):
    """The command."""
    return f"/mnt/share/sev-kvm storm {number} {seconds} {LAUNCHERS} 0 kill"


def full(lines, es, sev):
    """Fail unless the last thing `lines` tell is that guests of both kinds took every ASID and gave it back."""
    equal(lines[-4:], [f"sev-es: {es} guests, then EBUSY error=0x5a5a5a5a", f"sev: {sev} guests, then EBUSY error=0x5a5a5a5a",
                       f"full: guests {es + sev}", "empty: guests 0"], "guests at once after it")


def test_killed_guests_leave_every_asid_and_no_context_behind(context):
    """On Debian's kernel, whose cgroups count ASIDs, too."""
    number = seed()
    lines = host(context, f"""
        mkdir /tmp/cgroup && mount -t cgroup2 none /tmp/cgroup && echo +misc >/tmp/cgroup/cgroup.subtree_control &&
        mkdir /tmp/cgroup/storm && cd /tmp/cgroup/storm && sh -c 'echo $$ >cgroup.procs; exec {storm(number)}' &&
        grep -H sev misc.current misc.peak && /mnt/share/sev-kvm fill 1""", kernel="debian")
    check_storm(lines, number)
    charged = dict(line.rsplit(" ", 1) for line in lines if line.startswith("misc."))
    equal([charged[f"misc.current:{kind}"] for kind in ("sev", "sev_es")], ["0", "0"], f"seed {number}: charges after it")
    if "0" in (charged["misc.peak:sev"], charged["misc.peak:sev_es"]):
        raise Failure(f"seed {number}: never charged: {charged}")
    full(lines, 99, 410)


def test_the_same_holds_for_upstreams_driver(context):
    number = seed()
    lines = host(context, f"{storm(number, LESS)} && /mnt/share/sev-kvm fill 1", "--driver", "upstream")
    check_storm(lines, number)
    full(lines, 99, 410)


def _recycle(context, driver):
    number = seed()
    trace = context.directory / "trace"
    lines = host(context, f"{storm(number, LESS)} && /mnt/share/sev-kvm fill {ROUNDS}", "--driver", driver, "--model", "naples",
                 "--trace", trace)
    kvms_limit = ("init2", "EBUSY", "-")
    too_old = {(call, "EIO", "0x11") for call in ("get_attestation_report", "send_cancel")}
    check_storm(lines, number, {kvms_limit} | too_old)
    # KVM does not know SEV-ES on a processor that has no ASIDs for it.
    equal(lines[-3 * ROUNDS:], ["sev: 15 guests, then EBUSY error=0x5a5a5a5a", "full: guests 15", "empty: guests 0"] * ROUNDS,
          f"{ROUNDS} rounds")
    commands = [json.loads(line) for line in trace.read_text().splitlines()]
    flushes = [line["status_name"] for line in commands if line.get("name") == "DF_FLUSH"]
    if len(flushes) < ROUNDS or set(flushes) != {"SUCCESS"}:
        raise Failure(f"seed {number}: flushes {flushes}")


def test_asids_are_recycled_while_guests_are_killed(context):
    """Naples has 15 ASIDs: fewer than such a storm wants at times, so KVM flushes in the middle of it."""
    _recycle(context, "rust")


def test_upstreams_driver_recycles_asids_like_ours(context):
    _recycle(context, "upstream")


def test_the_debug_kernel_says_nothing_of_a_storm(context):
    """KASAN, lockdep and kmemleak over guests that are killed at random moments."""
    number = seed()
    result = context.lab("run", "--kernel", "debug", "--mem", 2048, "--share", sev_kvm(context), "--timeout", SECONDS + 300,
                         "--", "sh", "-c", f"""
        {storm(number, LESS)} || exit
        echo 'the kernel:'; dmesg
        modprobe -r kvm-amd; modprobe -r ccp
        echo scan >/sys/kernel/debug/kmemleak; sleep 5; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak""")
    storms, kernel = result.stdout.decode().split("the kernel:\n", 1)
    equal(result.returncode, 0, f"status, with {result.stderr}")
    contains(storms, "afterwards: guests 0", f"seed {number}: what is left")
    contains(kernel, "KernelAddressSanitizer", "the kernel's messages")
    complaints = [line for line in KVMS_OWN.sub("", kernel).splitlines() if re.search(SPLATS + "|unreferenced object", line)]
    if complaints:
        raise Failure(f"seed {number}: {complaints}\n{kernel}")
