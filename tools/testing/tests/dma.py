# SPDX-License-Identifier: GPL-2.0
"""Unmodified virtio drivers in a SEV guest: that what they move arrives, through the kernel's bounce buffers and the guest helper's pool."""

import hashlib
import os

from lab import storms
from lab.adopted import DEBUGFS, GUEST, between, inside, reported, with_either
from lab.paths import CHECKOUT
from lab.suites import contains, equal, watched

KERNELS = ("debian", "kunit", "debug")
PROGRAMS = CHECKOUT / "tools/testing/guest"
MIB = 1 << 20

# Takes over devices whose driver was bound before, by their names.
REBIND = "rebind() { for name; do echo $name >/sys/kernel/sev_guest/rebind || exit 3; done; }\n"

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


# The virtio device of these ports, and of a mount tag.
LOOP_DEVICE = """of_loop() { basename $(readlink -f $(dirname $(grep -lx lab.loop0 /sys/class/virtio-ports/*/name))/../..); }
until_ports() { until grep -qx lab.loop1 /sys/class/virtio-ports/*/name 2>/dev/null; do sleep 0.1; done; }
until_ports
"""
SHARE_DEVICE = "basename $(dirname $(grep -lx share /sys/bus/virtio/devices/*/mount_tag))"
MOUNT_SHARE = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=readahead share /mnt/share"


def _disks(context, bus, names, *options):
    """A disk of known contents is read and copied to another; a third is written all over. Both are done by either."""
    source, copy = context.directory / "source", context.directory / "copy"
    source.write_bytes(os.urandom(24 * MIB))
    contents = hashlib.sha256(source.read_bytes()).hexdigest()
    first, second, third = names
    # Disks of SCSI are found in any order; their hosts are not.
    order = "set -- $(readlink -f /sys/block/sd* | sort | sed 's,.*/,,')\n" if bus == "scsi" else ""
    script = order + READ_DISK.format(first) + COPY_DISK.format(first, second) + VERIFY_DISK.format(third)
    disks = ("--disk", f"file:{source},ro,bus={bus}", "--disk", f"file:{copy},bus={bus},queues=2", "--disk", f"ram:32M,bus={bus},queues=2")
    copy.write_bytes(bytes(24 * MIB))
    for driver, lines, report in with_either(context, script, "--io-tools", *disks, *options):
        equal(lines, [contents] * 4 + ["4k verified", "64k verified", "1m verified", "4m verified"], f"reads and checks with {driver}")
        equal(copy.read_bytes() == source.read_bytes(), True, f"whether the copy is the same with {driver}")
        copy.write_bytes(bytes(24 * MIB))
    read, written, _ = report.adopted(bus, 3)
    # What is read is copied once, and so is what is written; the rest are requests.
    between(read["copied_out"], 5 * 24 * MIB, (5 * 24 + 1) * MIB, "bytes copied of those read")
    between(read["copied_in"], 0, MIB, "bytes copied in for reads")
    between(written["copied_in"], 24 * MIB, 25 * MIB, "bytes copied of those written")
    return report


def test_blk(context):
    for disk in _disks(context, "blk", ("vda", "vdb", "vdc")).of("blk"):
        equal(disk["maps"], disk["unmaps"], f"mappings that are left of {disk}")


def test_scsi(context):
    _disks(context, "scsi", ("$1", "$2", "$3"))


def test_net(context):
    """Small packets, and large ones that take several of the receiver's buffers each."""
    script = "for mtu in 1500 65000; do python3 /mnt/share/pair.py 16 $mtu; done; cat /sys/class/net/eth0/statistics/*_dropped"
    for driver, lines, report in with_either(context, script, "--net", "pair", "--share", PROGRAMS):
        equal(lines, [f"{16 * MIB} as sent"] * 4 + ["0", "0"], f"what was received, and drops, with {driver}")
    for interface in report.adopted("net", 2):
        between(interface["copied_in"], 32 * MIB, 48 * MIB, "bytes copied of those sent")
        equal(interface["copied_out"] >= 32 * MIB, True, f"bytes copied of those received: {interface}")


def test_packed_rings_are_hidden(context):
    """The kernel would make an error of a buffer that cannot be mapped now. Devices that offer them work with split ones."""
    source = context.directory / "source"
    source.write_bytes(os.urandom(16 * MIB))
    contents = hashlib.sha256(source.read_bytes()).hexdigest()
    # Bit 34 of the features that device and driver agreed on, VIRTIO_F_RING_PACKED.
    packed = "".join(f"cut -c35 /sys/{name}/device/features\n" for name in ("block/vda", "block/vdb", "class/net/eth0", "class/net/eth1"))
    options = ("--io-tools", "--disk", f"file:{source},ro,packed", "--disk", "ram:32M,queues=2,packed", "--net", "pair,packed", "--share", PROGRAMS)
    equal(inside(context, packed, "--driver", "none", *options), ["1"] * 4, "packed rings without the guest helper")
    script = packed + READ_DISK.format("vda") + VERIFY_DISK.format("vdb") + "for mtu in 1500 65000; do python3 /mnt/share/pair.py 4 $mtu; done"
    lines, report = reported(context, script, *options)
    equal(lines, ["0"] * 4 + [contents] * 4 + ["4k verified", "64k verified", "1m verified", "4m verified"] + [f"{4 * MIB} as sent"] * 4,
          "packed rings, reads, checks, and what was received")
    hidden = {device["hidden_features"] for kind in ("blk", "net") for device in report.adopted(kind, 2)}
    equal(hidden, {"0x400000000"}, "hidden features")


def test_features_are_those_that_were_agreed_on(context):
    """Of adopted devices, of one that is admitted, and of one that was bound before; none while there is no driver."""
    script = """for device in /sys/bus/virtio/devices/*; do echo ${device##*/} $(cat $device/features); done
        echo $(basename $(readlink -f /sys/block/vdb/device)) >/sys/bus/virtio/drivers/virtio_blk/unbind"""
    lines, report = reported(context, script, "--disk", "ram:8M,no-access-platform", "--disk", "ram:8M", "--net", "pair",
                             "--module-param", "virtio_sev_shim.admit=blk")
    agreed = {name: sum(1 << at for at, bit in enumerate(bits) if bit == "1") for name, bits in map(str.split, lines)}
    told = {name: int(block["features"], 16) for name, block in report.blocks.items() if "features" in block}
    admitted, = (name for name, block in report.blocks.items() if block["access_platform"] == "admitted")
    unbound = {name for name, block in report.blocks.items() if block["state"] == "no driver"}
    # The kernel is told that this one has it, the device is not.
    agreed[admitted] &= ~(1 << 33)
    equal((len(unbound), told), (1, {name: agreed[name] for name in report.blocks if name not in unbound}), "features")
    before = {block["state"] for name, block in report.blocks.items() if name in told}
    equal(before, {"adopted", "not adopted: its driver was bound before; see rebind"}, "states of those with features")


def test_rng(context):
    script = 'dd if=/dev/hwrng bs=64 count=512 iflag=fullblock status=none | python3 -c "import sys, zlib\n' \
             'data = sys.stdin.buffer.read(); print(len(data), len(zlib.compress(data)) >= len(data))"'
    for driver, lines, report in with_either(context, script, "--virtio", "rng"):
        equal(lines, ["32768 True"], f"bytes, and whether they look random, with {driver}")
    equal(report.adopted("rng", 1)[0]["copied_out"] >= 32768, True, "bytes copied")


def test_console(context):
    """Its driver is built in, and bound before the guest helper is there."""
    (context.directory / "loop.py").write_text(LOOP)
    options = ("--virtio", "console", "--share", context.directory)
    script = f"{LOOP_DEVICE}python3 /mnt/share/loop.py"
    expected = [f"{4 * MIB} True"]
    equal(inside(context, script, "--driver", "none", *options), expected, "bytes, and whether they are those that were sent")
    lines, report = reported(context, f"{REBIND}{LOOP_DEVICE}rebind $(of_loop); until_ports; python3 /mnt/share/loop.py", *options)
    equal(lines, expected, "the same with the guest helper")
    own, other = report.of("console")
    equal(own["state"], "not adopted: its driver was bound before; see rebind", "the lab's own")
    equal((other["state"], min(other["copied_in"], other["copied_out"]) >= 4 * MIB), ("adopted", True), f"the other: {other}")


def test_9p(context):
    """Mounted before the guest helper is there, too."""
    share = context.directory / "share"
    share.mkdir()
    (share / "source").write_bytes(os.urandom(8 * MIB + 1))
    expected = [f"{hashlib.sha256((share / 'source').read_bytes()).hexdigest()}  -"]
    script = "cd /mnt/share; sha256sum <source; dd if=source of=copy bs=1M status=none; cd /"
    rebound = f"{REBIND}umount /mnt/share; rebind $({SHARE_DEVICE}); {MOUNT_SHARE}; {script}"
    equal(inside(context, script, "--driver", "none", "--share", share), expected, "the checksum inside")
    equal((share / "copy").read_bytes() == (share / "source").read_bytes(), True, "whether the copy is the same")
    (share / "copy").unlink()
    lines, report = reported(context, rebound, "--share", share)
    equal(lines, expected, "the checksum inside with the guest helper")
    equal((share / "copy").read_bytes() == (share / "source").read_bytes(), True, "whether the copy is the same with the guest helper")
    equal(report.adopted("9p", 1)[0]["copied_in"] >= 8 * MIB, True, f"bytes copied: {report.of('9p')}")


def test_gpu(context):
    script = "ls /dev/dri; dmesg | grep -i -e '[*]error[*]' -e 'fb0: .*frame buffer device'"
    for driver, lines, report in with_either(context, script, "--kernel", "debian", "--virtio", "gpu"):
        equal(lines[:2], ["card0", "renderD128"], f"devices with {driver}")
        equal(len(lines), 3, f"lines of the log with {driver}: {lines[2:]}")
        contains(lines[2], "virtio_gpudrmfb frame buffer device", f"the log with {driver}")
    report.adopted("gpu", 1)


def test_balloon(context):
    """Its driver takes ACCESS_PLATFORM away, and so the stock kernel refuses it; what it is told are no addresses of buffers."""
    script = """exec 9<>/dev/lab-host; total() { awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo; }
before=$(total); echo balloon 824 >&9; read -r answer <&9; tries=200
while [ $(total) -gt $((before - 190)) ] && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.1; done; echo $((before - $(total)))
echo balloon 1024 >&9; read -r answer <&9
while [ $(total) -lt $before ] && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.1; done; echo $((before - $(total)))
head -c 300M /dev/zero | tail -c 1 | od -An -tx1"""
    refused = inside(context, "dmesg | grep -c 'virtio_balloon.*must provide VIRTIO_F_ACCESS_PLATFORM'", "--driver", "none",
                     "--virtio", "balloon")
    equal(refused, ["1"], "refusals without the guest helper")
    lines, report = reported(context, script, "--virtio", "balloon", "--module-param", "virtio_sev_shim.admit=balloon")
    equal((int(lines[0]) >= 190, lines[1:]), (True, ["0", " 00"]), f"MiB that were given away, and that are missing afterwards: {lines}")
    report.adopted("balloon", 1)


ADMITTED = """for disk in vda sda; do echo 4096 >/sys/block/$disk/queue/max_sectors_kb; done
for disk in vda sda; do fio --minimal --name=verify --filename=/dev/$disk --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bs=64k \
    --size=32m --verify=crc32c --do_verify=1 --verify_fatal=1 >/tmp/fio 2>&1 && echo verified || cat /tmp/fio; done
python3 /mnt/share/pair.py 8; head -c 64 /dev/hwrng | wc -c"""
WITHOUT = ("--io-tools", "--share", PROGRAMS, "--disk", "ram:32M,no-access-platform", "--disk", "ram:32M,bus=scsi,no-access-platform",
           "--net", "pair,no-access-platform", "--virtio", "rng,no-access-platform")
REFUSALS = "dmesg | grep -c 'device must provide VIRTIO_F_ACCESS_PLATFORM'"


def test_devices_without_access_platform_work_when_admitted(context):
    """All of them, or those of some kinds; the others are refused, as all are by default and without the guest helper."""
    lines, report = reported(context, ADMITTED, *WITHOUT, "--module-param", "virtio_sev_shim.admit=all")
    equal(lines, ["verified", "verified"] + [f"{8 * MIB} as sent"] * 2 + ["64"], "what works with admit=all")
    for kind, number in (("blk", 1), ("scsi", 1), ("net", 2), ("rng", 1)):
        equal({block["access_platform"] for block in report.adopted(kind, number)}, {"admitted"}, f"ACCESS_PLATFORM of {kind}")
    for options, refused in ((("--driver", "none"), "5"), (("--module-param", "virtio_sev_shim.admit=none"), "5"),
                             (("--module-param", "virtio_sev_shim.admit=blk,4"), "3")):
        there = "ls /dev/vda 2>/dev/null; head -c 8 /dev/hwrng 2>/dev/null | wc -c"
        lines = inside(context, f"{REFUSALS}; {there}", *WITHOUT, *options)
        equal(lines, [refused, *(["/dev/vda", "8"] if refused == "3" else ["0"])], f"refusals, and what is there, with {options}")


def test_unloading_gives_the_devices_back(context):
    """They work on, with the kernel's bounce buffers; and the other way round, taken over one by one."""
    check = "dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum; python3 /mnt/share/pair.py 4\n"
    disk = context.directory / "disk"
    disk.write_bytes(os.urandom(16 * MIB))
    contents = f"{hashlib.sha256(disk.read_bytes()).hexdigest()}  -"
    script = f"""{REBIND}{check}rmmod virtio_sev_shim && echo unloaded; {check}modprobe virtio_sev_shim
grep -h state {DEBUGFS}/devices/* | sort | uniq -c
cd /sys/bus/virtio/devices; for d in virtio*; do case $(cat $d/device) in 0x0001|0x0002) rebind $d;; esac; done; cd; {check}
rmmod virtio_sev_shim; dmesg | grep -c 'virtio_sev_shim: unloaded with'; true"""
    lines = inside(context, script, "--disk", f"file:{disk},ro", "--net", "pair", "--share", PROGRAMS)
    good = [contents] + [f"{4 * MIB} as sent"] * 2
    equal(lines, [*good, "unloaded", *good, "      6 state: not adopted: its driver was bound before; see rebind", *good, "0"],
          "what arrives, and whether something stayed shared")


def test_a_disk_that_is_plugged_in_is_adopted(context):
    script = f"""exec 9<>/dev/lab-host; ask() {{ echo "$*" >&9; read -r answer <&9; }}
for round in 1 2; do
    # QEMU takes it again when the slot has been powered off.
    until ask plug 1; [ "${{answer%% *}}" = plugged ]; do sleep 0.2; done; until [ -e /dev/vda ]; do sleep 0.1; done; dd if=/dev/vda bs=1M iflag=direct status=none | wc -c
    grep -l '(blk)' {DEBUGFS}/devices/* | xargs grep -h state; ask unplug 1; while [ -e /dev/vda ]; do sleep 0.1; done
done; tries=50; while grep -q '(blk)' {DEBUGFS}/devices/* && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.1; done
grep -c '(blk)' {DEBUGFS}/devices/* | grep -vc ':0'"""
    lines = inside(context, f"{script}; true", "--hotplug", "ram:8M", "--timeout", "100")
    equal(lines, [str(8 * MIB), "state: adopted"] * 2 + ["0"], "bytes and state, twice, and devices known afterwards")


# A disk and a pair of interfaces want a hundred times what the pool has, for so many seconds; what is written meanwhile is checked.
EXHAUST = """echo 512 >/sys/block/vda/queue/max_sectors_kb
ip netns add peer
# IPv6 would send from an interface whose peer is not up yet.
quiet='for of in all default; do echo 1 >/proc/sys/net/ipv6/conf/$of/disable_ipv6; done'; sh -c "$quiet"; ip netns exec peer sh -c "$quiet"
ip link set eth1 netns peer && ip addr add 10.0.0.1/24 dev eth0 && ip link set eth0 up mtu 65000
ip -n peer addr add 10.0.0.2/24 dev eth1 && ip -n peer link set eth1 up mtu 65000
ip netns exec peer iperf3 --server --one-off >/dev/null 2>&1 & server=$!
until ip netns exec peer grep -q ':1451 .* 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 0.1; done
fio --minimal --filename=/dev/vda --direct=1 --ioengine=libaio --norandommap \
    --name=pressure --rw=randread --bs=4m --size=1g --iodepth={1} --time_based --runtime={0} \
    --name=check --rw=randwrite --bs=1m --size=16m --offset=1g --iodepth=16 --verify=pattern --verify_pattern=%o --verify_interval=4096 \
    --verify_fatal=1 >/tmp/fio 2>&1 & disk=$!
iperf3 --client 10.0.0.2 --parallel 4 --time {0} >/tmp/iperf 2>&1 && echo sent || cat /tmp/iperf
wait $disk && echo verified || cat /tmp/fio; wait $server
of() {{ cat /sys/class/net/eth0/statistics/$1; ip netns exec peer cat /sys/class/net/eth1/statistics/$1; }}
for counter in tx_dropped rx_dropped tx_errors rx_errors; do of $counter; done
set -- $(of tx_packets) $(of rx_packets); echo $(($1 - $4)) $(($2 - $3)); set -- $(cat /sys/block/vda/stat)
echo $(($3 >> 11)) $(($(cat /sys/class/net/eth0/statistics/tx_bytes) >> 20))
dmesg | grep -c -e 'virtio.*its share of the pool is used up' -e 'virtio.*the pool is exhausted'
dmesg | grep -i -e 'i/o error' -e 'swiotlb buffer is full'; true
"""
# So many that the interfaces' rings of receive buffers, 1 MiB each with this MTU, find no room for the last of them.
SMALL_POOL = 8


def test_exhaustion_loses_nothing(context):
    """Back-pressure instead of errors: whoever finds the pool empty waits. With the kernel that has byte queue limits."""
    seconds = storms.number("SEV_EXHAUST_SECONDS", 60)
    lines, report = reported(context, EXHAUST.format(seconds, 100 * SMALL_POOL // 4), "--kernel", "debian", "--mem", "2048",
                             "--io-tools", "--disk", "ram:2G", "--net", "pair", "--module-param", "virtio_sev_shim.pool_min=8",
                             "--module-param", f"virtio_sev_shim.pool_max={SMALL_POOL}")
    equal(lines[:-2], ["sent", "verified"] + ["0"] * 8 + ["0 0"],
          "outcomes, drops and errors of either interface, and packets that were sent and not received")
    read, sent = map(int, lines[-2].split())
    equal((read >= 100, sent >= 10), (True, True), f"MiB that the disk was read, {read}, and that were sent, {sent}")
    between(int(lines[-1]), 1, 5 + 2 * (seconds // 60), f"lines in the log, one a minute for each cause: {report.pool}")
    equal(report.pool["highest"] <= SMALL_POOL * MIB, True, f"the pool's size: {report.pool}")
    disk = report.adopted("blk", 1)[0]
    refusals = sum(report.pool[name] for name in ("exhausted", "quota", "fragmented"))
    equal(refusals > 0, True, f"how often somebody found no room: {report.pool}")
    between(disk["mapped"], 1, 64 << 10, "bytes mapped in the end, which are its rings")


def test_without_sev_the_pool_is_used_by_force_only(context):
    """For those who develop, or compare. Everything works in the same way there."""
    disk = context.directory / "disk"
    disk.write_bytes(os.urandom(8 * MIB))
    contents = f"{hashlib.sha256(disk.read_bytes()).hexdigest()}  -"
    script = f"""read() {{ dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum; }}
disk=$(basename $(readlink -f /sys/block/vda/device)); cd {DEBUGFS} 2>/dev/null && echo there
modprobe virtio_sev_shim && ls -d {DEBUGFS} 2>/dev/null; read; rmmod virtio_sev_shim
for copy_in in 0 1; do
    modprobe virtio_sev_shim force=1 admit=blk copy_in=$copy_in && echo $disk >/sys/kernel/sev_guest/rebind && read
    grep -h -e '^state' -e '^access_platform' -e '^copied' {DEBUGFS}/devices/$disk; rmmod virtio_sev_shim && read
done; ls -d {DEBUGFS} 2>/dev/null; true"""
    result = context.lab("run", "--kernel", "kunit", "--smp", "1", "--disk", f"file:{disk},ro", "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    lines = result.stdout.decode().splitlines()
    equal([line for line in lines if not line.startswith("copied")],
          [contents] + [contents, "state: adopted", "access_platform: admitted", contents] * 2, "what is read, and the device")
    copied = [int(line.split()[1]) for line in lines if line.startswith("copied")]
    for (copied_in, copied_out), least in zip((copied[:2], copied[2:]), (0, 8 * MIB)):
        between(copied_out, 8 * MIB, 10 * MIB, "bytes copied of those read")
        between(copied_in, least, least + 2 * MIB, "bytes copied before they were read")


def test_dma_can_be_switched_off(context):
    script = f"ls -d {DEBUGFS} 2>/dev/null; head -c 1M /dev/vda | wc -c; cat /sys/kernel/sev_guest/shared_pages; echo x | cat >/sys/kernel/sev_guest/rebind"
    result = context.lab(*GUEST, "--disk", "ram:8M", "--module-param", "virtio_sev_shim.dma=off", "--", "sh", "-c", watched(script))
    equal(result.stdout.decode().splitlines(), [str(MIB), "0"], "bytes that are read, and pages of the pool")
    contains(result.stderr.decode(), "Operation not supported", "what rebind says")


def test_no_request_is_larger_than_a_share(context):
    """It would be put back for ever."""
    disk = context.directory / "disk"
    disk.write_bytes(os.urandom(16 * MIB))
    contents = f"{hashlib.sha256(disk.read_bytes()).hexdigest()}  -"
    script = """cd /sys/block/vda/queue; echo 4096 >max_sectors_kb 2>/dev/null
        echo $(($(cat max_hw_sectors_kb) * 1024 * 2 <= $(grep -h share_send $(grep -l '(blk)' /sys/kernel/debug/virtio_sev_shim/devices/*) | cut -d' ' -f2)))
        for size in 64k 4M; do dd if=/dev/vda bs=$size iflag=direct status=none | sha256sum; done"""
    lines = inside(context, script, "--disk", f"file:{disk},ro", "--net", "pair", "--timeout", "100",
                   "--module-param", "virtio_sev_shim.pool_max=4")
    equal(lines, ["1", contents, contents], "whether a request fits twice, and what is read")


def test_a_debug_kernel_has_nothing_to_complain_about(context):
    """KASAN, lockdep, sleeping in atomic context and kmemleak, while disks and interfaces work and modules come and go."""
    script = f"""{REBIND}check() {{
    fio --minimal --name=v --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bsrange=4k-1m --size=8m \
        --verify=crc32c --do_verify=1 --verify_fatal=1 >/tmp/fio 2>&1 && echo verified || cat /tmp/fio
    python3 /mnt/share/pair.py 2; head -c 64 /dev/hwrng | wc -c; }}
check; rmmod virtio_sev_shim; check; modprobe virtio_sev_shim
cd /sys/bus/virtio/devices; for d in virtio*; do case $(cat $d/device) in 0x0001|0x0002|0x0004) rebind $d;; esac; done; cd; check
sleep 6; echo scan >/sys/kernel/debug/kmemleak; sleep 1; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak"""
    lines = inside(context, script, "--kernel", "debug", "--io-tools", "--disk", "ram:16M", "--net", "pair", "--virtio", "rng",
                   "--share", PROGRAMS)
    equal(lines, ["verified", f"{2 * MIB} as sent", f"{2 * MIB} as sent", "64"] * 3, "what works, and leaks")
