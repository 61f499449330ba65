# SPDX-License-Identifier: GPL-2.0
"""Virtio devices of our own: that they work, and that all memory they are given is shared."""

import hashlib
import json
import shutil

from lab.paths import CHECKOUT
from lab.suites import Failure, contains, equal, watched
from lab.vdevs import pattern

KERNELS = ("debian", "kunit")
GUEST = ("run", "--role", "guest", "--driver", "none")
QUICK = (*GUEST, "--kernel", "kunit", "--smp", "1", "--mem", "256")
EXIT_USAGE, EXIT_LAB = 2, 125

# Asks what has become of the pages of the first device.
ASK = 'exec 9<>/dev/lab-host; echo "vdev-pages 1" >&9; read -r pages <&9; echo "$pages"'


def lines(result):
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode().splitlines()


def shared(line, at_least):
    """Fail unless all pages of a device were shared, and there were so many."""
    words = line.split()
    equal((words[0], words[2:]), ("touched", ["private", "0", "refused", "0"]), f"pages: {line}")
    equal(int(words[1]) >= at_least, True, f"at least {at_least} pages: {line}")


def test_every_page_a_disk_was_given_is_shared(context):
    """While it is read and written with several queues; and what it has on it is right."""
    script = f"""dd if=/dev/vda of=/tmp/disk bs=64k iflag=direct status=none && sha256sum </tmp/disk
head -c 4M /tmp/disk | tr 'a-z' 'A-Z' >/tmp/upper
dd if=/tmp/upper of=/dev/vda bs=1M oflag=direct conv=fsync status=none
dd if=/dev/vda bs=32k count=128 iflag=direct status=none | cmp - /tmp/upper && echo same; {ASK}"""
    result = context.lab(*QUICK, "--smp", "2", "--vdev", "blk,size=8M,pattern,queues=2", "--", "sh", "-c", watched(script))
    digest, same, pages = lines(result)
    equal((digest.split()[0], same), (hashlib.sha256(pattern(8 << 20)).hexdigest(), "same"), "contents")
    shared(pages, 200)


def test_every_page_a_card_was_given_is_shared(context):
    """With several pairs of queues; and every frame comes back."""
    share = context.directory
    shutil.copy(CHECKOUT / "tools/testing/guest/reflected.py", share)
    script = f"modprobe af_packet; ip link set eth0 up; python3 /mnt/share/reflected.py eth0 400 3; {ASK}"
    result = context.lab(*GUEST, "--io-tools", "--share", share, "--vdev", "net,queues=2", "--", "sh", "-c", watched(script))
    found, pages = lines(result)
    # Between queues there is no order, and a sender may change his processor.
    equal(found.split()[:2], ["1200", "right"], "frames")
    shared(pages, 20)


def test_rings_without_extras_work_too(context):
    """Neither indirect descriptors nor event indices nor mergeable buffers, and a small ring."""
    share = context.directory
    shutil.copy(CHECKOUT / "tools/testing/guest/reflected.py", share)
    plain = "no-indirect,no-event-idx,ring=32"
    script = f"""modprobe af_packet; ip link set eth0 up; python3 /mnt/share/reflected.py eth0 200 1
dd if=/dev/vda bs=64k iflag=direct status=none | sha256sum; {ASK}"""
    result = context.lab(*GUEST, "--io-tools", "--share", share, "--vdev", f"blk,size=4M,pattern,{plain}",
                         "--vdev", f"net,no-mrg-rxbuf,{plain}", "--", "sh", "-c", watched(script))
    found, digest, pages = lines(result)
    equal((found, digest.split()[0]), ("200 right 0 late", hashlib.sha256(pattern(4 << 20)).hexdigest()), "frames and contents")
    shared(pages, 10)


def test_private_memory_is_not_handed_over(context):
    """QEMU offers it, as it does all memory; and a page that was not shared would be noticed."""
    share = context.directory
    log = share / "log"
    script = f"""dd if=/dev/vda bs=64k count=4 iflag=direct status=none | wc -c; {ASK}
echo '{{"event":"pages","first":"0x1000000","pages":2,"usage":"ring"}}' >>/mnt/share/log
echo '{{"event":"refused","address":"0x8000000000","len":1,"usage":"ring"}}' >>/mnt/share/log; echo "vdev-pages 1" >&9; read -r a <&9; echo $a"""
    result = context.lab(*QUICK, "--share", share, "--vdev-log", log, "--vdev", "blk,size=1M", "--", "sh", "-c", script)
    count, before, after = lines(result)
    equal(count, "262144", "bytes read")
    shared(before, 4)
    contains(after, "private 2 refused 1 0x1000000 0x1001000 0x8000000000", "with pages of the kernel's own in the log")
    maps = [json.loads(line) for line in log.read_text().splitlines()[1:] if '"map"' in line]
    taken = {int(event["address"], 16): event["taken"] for event in maps}
    equal((taken[1 << 39], taken[0]), (False, True), "private memory, shared memory")
    equal([hex(address) for address, was_taken in taken.items() if was_taken and address >= 1 << 39], [], "private memory taken")


def test_a_stock_guest_refuses_devices_without_access_platform(context):
    script = "ls /sys/block /sys/class/net; dmesg | grep -o 'virtio_.*device must provide.*'"
    result = context.lab(*QUICK, "--vdev", "blk,no-access-platform", "--vdev", "net,no-access-platform", "--", "sh", "-c", script)
    names = lines(result)
    equal([name for name in names if name.startswith(("vd", "eth"))], [], "disks and interfaces")
    refusals = [line.split(":")[1].strip() for line in names if "must provide" in line]
    equal(refusals, ["device must provide VIRTIO_F_ACCESS_PLATFORM"] * 2, "what the kernel says")


def test_an_admitted_device_sees_nothing_but_shared_memory(context):
    """Without ACCESS_PLATFORM, through the guest helper's pool; one that is not admitted is refused as ever."""
    share = context.directory
    shutil.copy(CHECKOUT / "tools/testing/guest/reflected.py", share)
    script = f"""modprobe af_packet; ip link set eth0 up; python3 /mnt/share/reflected.py eth0 200 2
dd if=/dev/vda bs=64k iflag=direct status=none | sha256sum; {ASK}; echo "vdev-pages 2" >&9; read -r pages <&9; echo "$pages" """
    devices = ("--vdev", "blk,size=4M,pattern,no-access-platform", "--vdev", "net,no-access-platform")
    rust = ("run", "--role", "guest", "--io-tools", "--share", share, *devices, "--module-param")
    result = context.lab(*rust, "virtio_sev_shim.admit=blk,net", "--", "sh", "-c", watched(script))
    found, digest, *pages = lines(result)
    equal((found, digest.split()[0]), ("400 right 0 late", hashlib.sha256(pattern(4 << 20)).hexdigest()), "frames and contents")
    for line in pages:
        shared(line, 10)
    result = context.lab(*rust, "virtio_sev_shim.admit=net", "--", "sh", "-c", "ls /sys/block /sys/class/net")
    equal([name for name in lines(result) if name.startswith(("vd", "eth"))], ["eth0"], "disks and interfaces when only cards are admitted")


def test_a_plain_machine_can_have_them_too(context):
    result = context.lab("run", "--role", "plain", "--driver", "none", "--kernel", "kunit", "--smp", "1",
                         "--vdev", "blk,size=2M,pattern,no-access-platform,serial=mine",
                         "--", "sh", "-c", "cat /sys/block/vda/serial; dd if=/dev/vda bs=64k iflag=direct status=none | sha256sum")
    equal(lines(result)[0], "mine" + hashlib.sha256(pattern(2 << 20)).hexdigest() + "  -", "serial number and contents")


def test_what_is_no_device_is_refused(context):
    for spec, status, expected in (("disk", EXIT_USAGE, "there are blk and net"),
                                   ("blk,size=12", EXIT_LAB, "vdev1 did not start: blk,size=12,serial=vdev1: size=12 is no size")):
        result = context.lab(*QUICK, "--vdev", spec, "true")
        equal(result.returncode, status, f"status of {spec}")
        contains(result.stderr.decode(), expected, spec)
    result = context.lab("run", "--vdev", "blk,hostile=help")
    equal(result.returncode, 0, "status of help")
    names = [line.split()[0] for line in result.stdout.decode().splitlines()]
    if "id-range" not in names or "random" not in names:
        raise Failure(f"help: {names}")
