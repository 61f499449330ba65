# SPDX-License-Identifier: GPL-2.0
"""Hostile virtio devices (vdev.rst) in a SEV guest: whatever they do, the kernel goes on, and what is not theirs stays right.

Each test is one VM with a device for each mode and a good one beside them, which are used in turn.
"""

import hashlib
import json
import os
import secrets
import shutil

from lab import chance
from lab.paths import CHECKOUT
from lab.suites import Failure, equal, watched
from lab.vdevs import pattern

KERNELS = ("debian", "kunit", "debug")
SCRIPTS = CHECKOUT / "tools/testing/guest"
# TIMEOUT: a VM takes a minute, the debug kernel's a few.
GUEST = ("run", "--role", "guest", "--smp", "2", "--timeout", "1200")

# After these a queue is broken, or waits for ever; a driver may then never let its device go.
ENDING = ("id-range", "id-unknown", "id-twice", "index-jump", "silent")
# After these everything must be as with a good device.
HARMLESS = ("len-zero", "len-long", "len-max", "read-only", "descriptors", "interrupts", "reset")
# These spoil what the device itself has to answer: data or errors.
SPOILING = ("scribble", "beyond", "config")
MODES = (*HARMLESS, *SPOILING, *ENDING)
# Without `descriptors`: the kernel's own code for rings trusts them, and ends with a BUG when a card's driver is unbound.
CARD_MODES = (*(mode for mode in MODES if mode != "descriptors"), "num-buffers")
# A frame too long for its buffer has swiotlb complain, with a WARN.
SWIOTLB_COMPLAINS = ("len-long", "len-max")

# Of the good disk: how much is looked at.
LOOKED_AT = 1 << 20


def attacked(context, kind, modes, *options, seeds=None):
    """What guest/hostile.py reports of devices with these modes, in a VM whose kernel has nothing to complain about."""
    share = context.directory
    for name in ("hostile.py", "reflected.py"):
        shutil.copy(SCRIPTS / name, share)
    secret = secrets.token_bytes(16)
    plan = {"kind": kind, "modes": modes, "ending": [*ENDING, "random"], "digest": hashlib.sha256(pattern(LOOKED_AT)).hexdigest(),
            "secret": bytes(byte ^ 0xff for byte in secret).hex()}
    good = "blk,size=4M,pattern" if kind == "blk" else "net"
    own = "size=1M," if kind == "blk" else ""
    devices = ["--vdev", good]
    for number, mode in enumerate(modes):
        seed = f",seed={seeds[number]}" if seeds else ""
        devices += ["--vdev", f"{kind},{own}hostile={mode}{seed}"]
    script = f"modprobe -q af_packet; python3 /mnt/share/hostile.py '{json.dumps(plan)}'"
    result = context.lab(*options, *devices, "--share", share, "--vdev-log", share / "log", "--expect-private", secret.hex(),
                         "--io-tools", "--", "sh", "-c", watched(script))
    reports = [json.loads(line) for line in result.stdout.decode().splitlines()]
    if result.returncode or [report["mode"] for report in reports] != list(modes):
        raise Failure(f"status {result.returncode}: {result.stderr.decode()}{reports}")
    for number, report in enumerate(reports, start=2):
        lies = (share / f"log.{number}").read_text().count('"event":"lie"')
        equal(lies > 0, True, f"{report['mode']}: it has lied")
        equal((report["good"], report["good_after"]), (True, True), f"{report['mode']}: the good device before and after it is gone")
    return reports


def check_disks(reports):
    """Fail unless each mode did no more than it can."""
    for mode, report in ((report["mode"], report) for report in reports):
        equal((report["changed"], report["spoilt"]), (0, 0), f"{mode}: what changed after it was read, or was written: {report}")
        if mode not in ENDING:
            equal((report["ended"], report["unbind"], report["broken"]), (True, True, False), f"{mode}: all ended: {report}")
            # What is said of it when it is gone, by a guest helper that had adopted it.
            equal(report.get("held") in (None, "0"), True, f"{mode}: memory that is held: {report}")
        if mode in HARMLESS:
            equal((report["errors"], report["wrong"]), (0, 0), f"{mode}: errors and wrong data: {report}")
        if mode in ("id-range", "id-unknown", "index-jump"):
            equal(report["broken"], True, f"{mode}: the kernel has noticed: {report}")
        if mode == "silent":
            equal((report["ended"], report["broken"]), (False, False), f"{mode}: it waits: {report}")


def check_cards(reports):
    """Fail unless a card could be used to the end and be let go, whatever it did."""
    for mode, report in ((report["mode"], report) for report in reports):
        equal(report["unbind"], True, f"{mode}: the driver lets it go: {report}")
        if mode in HARMLESS:
            equal((report["ended"], report["errors"]), (True, 0), f"{mode}: all was sent: {report}")
            equal(report["received"] > 32, True, f"{mode}: frames came back: {report}")
        if mode in ("id-range", "id-unknown", "index-jump"):
            equal(report["broken"], True, f"{mode}: the kernel has noticed: {report}")


def test_no_lie_of_a_disk_harms_a_guest_with_swiotlb(context):
    check_disks(attacked(context, "blk", MODES, *GUEST, "--driver", "none", "--kernel", "kunit"))


def test_no_lie_of_a_disk_harms_a_guest(context):
    check_disks(attacked(context, "blk", MODES, *GUEST))


def test_no_lie_of_a_disk_harms_a_guest_under_kasan(context):
    check_disks(attacked(context, "blk", MODES, *GUEST, "--kernel", "debug", "--mem", "1536"))


def test_no_lie_of_a_card_harms_a_guest_with_swiotlb(context):
    check_cards(attacked(context, "net", [mode for mode in CARD_MODES if mode not in SWIOTLB_COMPLAINS], *GUEST, "--driver", "none"))


def test_no_lie_of_a_card_harms_a_guest(context):
    check_cards(attacked(context, "net", CARD_MODES, *GUEST))


def test_no_lie_of_a_card_harms_a_guest_under_kasan(context):
    check_cards(attacked(context, "net", CARD_MODES, *GUEST, "--kernel", "debug", "--mem", "1536"))


def _random(context, kind, count, *options):
    """Devices that lie at random, so many in a VM. SEV_SEED repeats what they did, SEV_HOSTILE says how many VMs to run."""
    seed = chance.seed()
    for first in range(seed, seed + count * int(os.environ.get("SEV_HOSTILE") or 1), count):
        print(f"     SEV_SEED={first}", flush=True)
        seeds = range(first, first + count)
        for report in attacked(context, kind, ["random"] * count, *options, seeds=seeds):
            equal((report.get("changed", 0), report.get("spoilt", 0)), (0, 0), f"SEV_SEED={first}: what changed after it was read, or was written")


def test_random_lies_of_disks_harm_no_guest(context):
    _random(context, "blk", 4, *GUEST, "--kernel", "kunit")


def test_random_lies_of_disks_harm_no_guest_under_kasan(context):
    _random(context, "blk", 3, *GUEST, "--kernel", "debug", "--mem", "1536")
