# SPDX-License-Identifier: GPL-2.0
"""Many guests of the stock KVM at once, killed at random moments: no ASID and no guest context may get lost.

SEV_STORM_SECONDS says how long a storm lasts, SEV_SEED which moments these are (Documentation/testing.rst).
"""

import json

from lab import chance, storms
from lab.clients import sev_kvm
from lab.suites import Failure, contains, equal, watched

KERNELS = ("kunit",)

SECONDS = storms.number("SEV_STORM_SECONDS", 10)
LESS = (SECONDS + 1) // 2
# How often the ASIDs of a small processor are all taken.
ROUNDS = 20


def host(context, script, *options, kernel="kunit"):
    """Run a script in a host with sev-kvm; the lines it printed."""
    result = context.lab("run", "--kernel", kernel, "--share", sev_kvm(context), *options, "--timeout", SECONDS + 300,
                         "--", "sh", "-c", watched(script), longer=SECONDS)
    if result.returncode:
        raise Failure(f"status {result.returncode}\n{result.stdout.decode()}\n{result.stderr.decode()}")
    return result.stdout.decode().splitlines()


def check_storm(lines, seed, allowed=()):
    """Fail unless guests came and went, were killed, left nothing, and nothing was refused but what is `allowed`."""
    launched = storms.check_answers(lines, seed, lambda *what: what in allowed)
    contains(lines, "afterwards: guests 0", f"seed {seed}: what is left")
    killed = int(next(line for line in lines if line.startswith("killed ")).split()[1])
    if not killed:
        raise Failure(f"seed {seed}: nothing was killed")
    print(f"     seed {seed}: {killed} processes killed, {launched} guests launched", flush=True)


def storm(seed, seconds=SECONDS):
    """The command for a storm whose processes are killed."""
    return storms.command(seed, seconds, storms.PROCESSES, 0, "kill")


def full(lines, es, sev):
    """Fail unless the last thing `lines` tell is that guests of both kinds took every ASID and gave it back."""
    equal(lines[-4:], [f"sev-es: {es} guests, then EBUSY error=0x5a5a5a5a", f"sev: {sev} guests, then EBUSY error=0x5a5a5a5a",
                       f"full: guests {es + sev}", "empty: guests 0"], "guests at once after it")


def test_killed_guests_leave_every_asid_and_no_context_behind(context):
    """On Debian's kernel, whose cgroups count ASIDs, too."""
    seed = chance.seed()
    lines = host(context, f"""
        mkdir /tmp/cgroup && mount -t cgroup2 none /tmp/cgroup && echo +misc >/tmp/cgroup/cgroup.subtree_control &&
        mkdir /tmp/cgroup/storm && cd /tmp/cgroup/storm && sh -c 'echo $$ >cgroup.procs; exec {storm(seed)}' &&
        grep -H sev misc.current misc.peak && /mnt/share/sev-kvm fill 1""", kernel="debian")
    check_storm(lines, seed)
    charged = dict(line.rsplit(" ", 1) for line in lines if line.startswith("misc."))
    equal([charged[f"misc.current:{kind}"] for kind in ("sev", "sev_es")], ["0", "0"], f"seed {seed}: charges after it")
    if "0" in (charged["misc.peak:sev"], charged["misc.peak:sev_es"]):
        raise Failure(f"seed {seed}: never charged: {charged}")
    full(lines, 99, 410)


def test_the_same_holds_for_upstreams_driver(context):
    seed = chance.seed()
    lines = host(context, f"{storm(seed, LESS)} && /mnt/share/sev-kvm fill 1", "--driver", "upstream")
    check_storm(lines, seed)
    full(lines, 99, 410)


def _recycle(context, driver):
    seed = chance.seed()
    trace = context.directory / "trace"
    lines = host(context, f"{storm(seed, LESS)} && /mnt/share/sev-kvm fill {ROUNDS}", "--driver", driver, "--model", "naples",
                 "--trace", trace)
    kvms_limit = ("init2", "EBUSY", "-")
    too_old = {(call, "EIO", "0x11") for call in ("get_attestation_report", "send_cancel")}
    check_storm(lines, seed, {kvms_limit} | too_old)
    # KVM does not know SEV-ES on a processor that has no ASIDs for it.
    equal(lines[-3 * ROUNDS:], ["sev: 15 guests, then EBUSY error=0x5a5a5a5a", "full: guests 15", "empty: guests 0"] * ROUNDS,
          f"{ROUNDS} rounds")
    commands = [json.loads(line) for line in trace.read_text().splitlines()]
    flushes = [line["status_name"] for line in commands if line.get("name") == "DF_FLUSH"]
    if len(flushes) < ROUNDS or set(flushes) != {"SUCCESS"}:
        raise Failure(f"seed {seed}: flushes {flushes}")


def test_asids_are_recycled_while_guests_are_killed(context):
    """Naples has 15 ASIDs: fewer than such a storm wants at times, so KVM flushes in the middle of it."""
    _recycle(context, "rust")


def test_upstreams_driver_recycles_asids_like_ours(context):
    _recycle(context, "upstream")
