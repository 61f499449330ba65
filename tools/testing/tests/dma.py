# SPDX-License-Identifier: GPL-2.0
"""Unmodified virtio drivers in a SEV guest: that what they move arrives, through the kernel's bounce buffers."""

import hashlib
import os

from lab.paths import CHECKOUT
from lab.suites import contains, equal, watched

KERNELS = ("kunit",)
GUEST = ("run", "--role", "guest", "--kernel", "kunit")
MIB = 1 << 20

# Reads a disk of known contents in pieces of several sizes, past the page cache.
READ_DISK = """echo 4096 >/sys/block/{0}/queue/max_sectors_kb
for size in 4k 64k 1M 4M; do dd if=/dev/{0} bs=$size iflag=direct status=none | sha256sum | cut -d' ' -f1; done
"""
# Copies it to another.
COPY_DISK = "dd if=/dev/{} of=/dev/{} bs=1M iflag=direct oflag=direct status=none; sync\n"
# Writes pieces all over a disk, many at once, and reads them again; each has a checksum of its own.
VERIFY_DISK = """for size in 4k 64k 1m 4m; do
fio --minimal --name=verify --filename=/dev/{} --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bs=$size --size=32m \
    --verify=crc32c --do_verify=1 --verify_fatal=1 >/tmp/fio 2>&1 && echo $size verified || cat /tmp/fio
done
"""

# Sends bytes through the ports of `--virtio console`, and prints their number and checksum at both ends.
LOOP = """
import glob, hashlib, os, threading
ports = {open(name).read().strip(): "/dev/" + name.split("/")[-2] for name in glob.glob("/sys/class/virtio-ports/*/name")}
data = os.urandom(4 << 20)
def write():
    with open(ports["lab.loop0"], "wb", buffering=0) as port:
        left = data
        while left:
            left = left[port.write(left):]
writer = threading.Thread(target=write)
with open(ports["lab.loop1"], "rb", buffering=0) as port:
    writer.start()
    received = b""
    while len(received) < len(data):
        received += port.read(1 << 16)
writer.join()
print(len(received), received == data)
"""


def inside(context, script, *options):
    """The lines that a script prints in a guest in which the kernel has nothing to complain about."""
    result = context.lab(*GUEST, *options, "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode().splitlines()


def _disks(context, driver, bus, names):
    """A disk of known contents is read and copied to another; a third is written all over."""
    source, copy = context.directory / f"{bus}-{driver}-source", context.directory / f"{bus}-{driver}-copy"
    source.write_bytes(os.urandom(24 * MIB))
    copy.write_bytes(bytes(24 * MIB))
    first, second, third = names
    script = READ_DISK.format(first) + COPY_DISK.format(first, second) + VERIFY_DISK.format(third)
    lines = inside(context, script, "--driver", driver, "--io-tools", "--disk", f"file:{source},ro,bus={bus}",
                   "--disk", f"file:{copy},bus={bus},queues=2", "--disk", f"ram:32M,bus={bus},queues=2")
    contents = hashlib.sha256(source.read_bytes()).hexdigest()
    equal(lines[:8], [contents] * 4 + ["4k verified", "64k verified", "1m verified", "4m verified"], f"reads and checks with {driver}")
    equal(copy.read_bytes() == source.read_bytes(), True, f"whether the copy is the same with {driver}")


def test_blk(context):
    _disks(context, "none", "blk", ("vda", "vdb", "vdc"))


def test_scsi(context):
    _disks(context, "none", "scsi", ("sda", "sdb", "sdc"))


def test_net(context):
    """Small packets, and large ones that take several of the receiver's buffers each."""
    script = "for mtu in 1500 65000; do python3 /mnt/share/pair.py 16 $mtu; done; cat /sys/class/net/eth0/statistics/*_dropped"
    lines = inside(context, script, "--driver", "none", "--net", "pair", "--share", CHECKOUT / "tools/testing/guest")
    equal(lines, [f"{16 * MIB} as sent"] * 4 + ["0", "0"], "what was received, and drops")


def test_rng(context):
    script = 'dd if=/dev/hwrng bs=64 count=512 iflag=fullblock status=none | python3 -c "import sys, zlib\n' \
             'data = sys.stdin.buffer.read(); print(len(data), len(zlib.compress(data)) >= len(data))"'
    equal(inside(context, script, "--driver", "none", "--virtio", "rng"), ["32768 True"], "bytes, and whether they look random")


def test_console(context):
    (context.directory / "loop.py").write_text(LOOP)
    lines = inside(context, "python3 /mnt/share/loop.py", "--driver", "none", "--virtio", "console", "--share", context.directory)
    equal(lines, [f"{4 * MIB} True"], "bytes, and whether they are those that were sent")


def test_9p(context):
    share = context.directory / "share"
    share.mkdir()
    (share / "source").write_bytes(os.urandom(8 * MIB + 1))
    contents = hashlib.sha256((share / "source").read_bytes()).hexdigest()
    script = "cd /mnt/share; sha256sum <source; dd if=source of=copy bs=1M status=none"
    equal(inside(context, script, "--driver", "none", "--share", share), [f"{contents}  -"], "the checksum inside")
    equal((share / "copy").read_bytes() == (share / "source").read_bytes(), True, "whether the copy is the same")


def test_gpu(context):
    lines = inside(context, "ls /dev/dri; dmesg | grep -i -e '[*]error[*]' -e 'fb0: .*frame buffer device'",
                   "--driver", "none", "--kernel", "debian", "--virtio", "gpu")
    equal(lines[:2], ["card0", "renderD128"], "devices")
    equal(len(lines), 3, f"lines of the log: {lines[2:]}")
    contains(lines[2], "virtio_gpudrmfb frame buffer device", "the log")
