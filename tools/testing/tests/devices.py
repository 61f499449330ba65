# SPDX-License-Identifier: GPL-2.0
"""Devices that the command line adds to a VM: which there are, how they are connected, what is refused."""

from lab.paths import CHECKOUT
from lab.suites import contains, equal, exactly

KERNELS = ("kunit",)
QUICK = ("--kernel", "kunit", "--smp", "1", "--driver", "none")
PLAIN = ("run", "--role", "plain", *QUICK)
GUEST = ("run", "--role", "guest", *QUICK)

# Each virtio device's number and driver; those that the lab itself needs come first.
DEVICES = 'cd /sys/bus/virtio/devices; for d in $(ls -v); do echo $(cat $d/device) $(basename "$(readlink $d/driver)"); done'


def inside(context, script, *options):
    """What a script prints in a VM."""
    result = context.lab(*options, "--", "sh", "-c", script)
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode()


def test_disks_of_every_kind(context):
    """Their sizes, which can be written to, and what is kept."""
    file = context.directory / "disk"
    file.write_bytes(b"from outside".ljust(8192, b"."))
    readonly = context.directory / "readonly"
    readonly.write_bytes(bytes(4096))
    script = r"""cd /dev; for disk in vda vdb vdc vdd sda; do echo $disk $(cat /sys/block/$disk/size /sys/block/$disk/ro); done
head -c 12 vdc; echo; printf 'from inside.' | dd of=vdc conv=notrunc,fsync status=none
for disk in vda vdb sda; do echo kept | dd of=$disk conv=fsync status=none; done; echo 3 >/proc/sys/vm/drop_caches
for disk in vda vdb sda; do echo $disk $(dd if=$disk bs=4 count=1 status=none | tr '\0' 0); done
(echo x >vdd) 2>/dev/null || echo read-only; ls -d /sys/block/vdb/mq/*"""
    output = inside(context, script, *PLAIN, "--disk", "null:64G", "--disk", "ram:32M,queues=2", "--disk", f"file:{file}",
                    "--disk", f"file:{readonly},ro", "--disk", "ram:16M,bus=scsi", "--smp", "2")
    equal(output.splitlines(), [
        "vda 134217728 0", "vdb 65536 0", "vdc 16 0", "vdd 8 1", "sda 32768 0", "from outside", "vda 0000", "vdb kept", "sda kept",
        "read-only", "/sys/block/vdb/mq/0", "/sys/block/vdb/mq/1"], "what was printed")
    equal(file.read_bytes()[:13], b"from inside..", "the file afterwards")


def test_a_pair_of_interfaces_is_connected(context):
    output = inside(context, "python3 /mnt/share/pair.py 2; cat /sys/class/net/eth0/address", *PLAIN, "--net", "pair",
                    "--share", CHECKOUT / "tools/testing/guest")
    equal(output, "2097152 as sent\n2097152 as sent\n52:54:00:5e:00:01\n", "what each side received, and an address")


def test_programs_for_disks_and_networks_are_at_hand(context):
    script = "for name in fio iperf3 sockperf ip; do command -v $name; done"
    for more, expected in ((("--io-tools",), "/usr/bin/fio\n/usr/bin/iperf3\n/usr/bin/sockperf\n/usr/sbin/ip\n"), ((), "")):
        result = context.lab(*PLAIN, *more, "--", "sh", "-c", f"{script}; true")
        equal((result.stdout.decode(), result.returncode), (expected, 0), f"where they are, with {more}")


def test_features_can_be_had_or_left_out(context):
    """Packed rings (bit 34 of those agreed on) and mergeable receive buffers (bit 15)."""
    script = "cd /sys/bus/virtio/devices; for d in $(ls -v); do echo $(cat $d/device) $(cut -c16,35 $d/features); done | tail -8"
    output = inside(context, script, *PLAIN, "--disk", "null:1M", "--disk", "null:1M,packed", "--disk", "null:1M,bus=scsi,packed",
                    "--net", "pair", "--net", "pair,packed", "--net", "user,no-mrg-rxbuf")
    equal(output.splitlines(), ["0x0002 00", "0x0002 01", "0x0008 01", *["0x0001 10"] * 2, *["0x0001 11"] * 2, "0x0001 00"], "devices and features")


def test_a_network_of_qemus_own_has_a_router(context):
    script = "busybox ip link set eth0 up; busybox ip addr add 10.0.2.15/24 dev eth0; busybox ping -q -c 1 -W 20 10.0.2.2 >/dev/null && echo there"
    equal(inside(context, script, *PLAIN, "--net", "user"), "there\n", "what was printed")


def test_other_devices_are_bound(context):
    script = f"""({DEVICES}) | tail -3; head -c 16 /dev/hwrng | wc -c; cd /sys/class/virtio-ports
for port in *; do case $(cat $port/name) in lab.loop0) from=/dev/$port;; lab.loop1) to=/dev/$port;; esac; done
exec 8<>$to; echo around >$from; read -r words <&8; echo $words"""
    output = inside(context, script, *PLAIN, "--virtio", "rng", "--virtio", "balloon", "--virtio", "console")
    equal(output, "0x0004 virtio_rng\n0x0005 virtio_balloon\n0x0003 virtio_console\n16\naround\n", "what was printed")


def test_a_host_has_devices_too(context):
    output = inside(context, f"({DEVICES}) | tail -2", "run", "--kernel", "kunit", "--smp", "1", "--disk", "null:1M", "--virtio", "rng")
    equal(output, "0x0002 virtio_blk\n0x0004 virtio_rng\n", "devices and drivers")


def test_a_guest_refuses_devices_without_access_platform(context):
    """Which all have by default. Not the balloon: its driver takes it away (drivers/virtio/virtio_balloon.c)."""
    less = ",no-access-platform"
    script = f"({DEVICES}) | tail -7; dmesg | grep -c 'device must provide VIRTIO_F_ACCESS_PLATFORM'"
    output = inside(context, script, *GUEST, "--disk", "null:1M", "--disk", f"null:1M{less}", "--net", "pair", "--net", f"user{less}",
                    "--virtio", "rng", "--virtio", f"rng{less}")
    equal(output.splitlines(), ["0x0002 virtio_blk", "0x0002", "0x0001 virtio_net", "0x0001 virtio_net", "0x0001",
                                "0x0004 virtio_rng", "0x0004", "3"], "devices, their drivers, and refusals")


def test_a_guest_binds_devices_after_the_guest_helper(context):
    script = r"dmesg | grep -e 'virtio_sev_shim: SEV' -e '\[vda' | sed 's/.*virtio_\([a-z]*\).*/\1/'"
    output = inside(context, script, "run", "--role", "guest", "--kernel", "kunit", "--smp", "1", "--disk", "null:1M")
    equal(output, "sev\nblk\n", "the order in the log")


def test_a_disk_is_plugged_in_and_out(context):
    script = """exec 9<>/dev/lab-host; ask() { echo "$*" >&9; read -r answer <&9; echo "$answer"; }
ask plug 1; until [ -e /dev/vdb ]; do sleep 0.1; done; dd if=/dev/vdb bs=1M iflag=direct status=none | wc -c
ask unplug 1; while [ -e /dev/vdb ]; do sleep 0.1; done; ask plug 2; ask plug 0x"""
    output = inside(context, script, *GUEST, "--disk", "null:1M", "--hotplug", "null:2M", "--timeout", "120")
    equal(output.splitlines(), ["plugged plugged0", "2097152", "unplugging plugged0", "error there is no --hotplug number 2",
                                "error a number is none in plug 0x"], "answers")


def test_a_processor_can_lack_features(context):
    script = "grep -m1 -ow -e erms -e fsrm -e avx2 /proc/cpuinfo"
    exactly(context.lab(*PLAIN, "--cpu-without", "erms,fsrm", "--", "sh", "-c", script), b"avx2\n", b"", 0)
    contains(context.lab(*PLAIN, "--", "sh", "-c", script).stdout, b"erms", "features by default")


def test_nonsense_is_refused(context):
    guest = ("--role", "guest")
    cases = {
        ("--disk", "null:"): "nothing is not a size",
        ("--disk", "ram:1000"): "1000 is not a size",
        ("--disk", "tape:1M"): "a disk is null:SIZE",
        ("--disk", "file:/nowhere"): "/nowhere is not a file",
        ("--disk", "null:1M,ro"): "ro is none of",
        ("--disk", "null:1M,bus=usb"): "bus=usb is none of",
        ("--disk", "null:1M,queues=0"): "queues=0 is none of",
        ("--disk", "null:1M,no-access-platform"): "needs --role guest",
        ("--net", "bridge"): "a network is pair or user",
        ("--net", "pair,queues=2"): "queues=2 is none of no-mrg-rxbuf, packed, no-access-platform",
        ("--virtio", "sound"): "a device is rng, gpu, balloon or console",
        ("--virtio", "gpu", "--kernel", "kunit"): "only the Debian kernel has a driver",
        ("--virtio", "console", "--virtio", "console"): "there is one console",
        ("--hotplug", "null:1M"): "needs --role guest",
        ("--hotplug", "null:1M,bus=scsi", *guest): "only bus=blk",
        ("--cpu-without", "-erms"): "expected one argument",
        ("--cpu-without", "erms,,"): "is not a list of processor flags",
    }
    for arguments, message in cases.items():
        result = context.lab("run", *arguments, "--", "true")
        equal(result.returncode, 2, f"status of {arguments}")
        contains(result.stderr.decode(), message, f"what is said to {arguments}")
