# SPDX-License-Identifier: GPL-2.0
"""XDP on virtio_net in a SEV guest, through the kernel's bounce buffers and the guest helper's pool: frames are right, none stays mapped.

Interfaces of `--net pair` have one queue, which XDP shares with the stack; a card of our own has enough for queues of XDP's own.
"""

from lab import clients
from lab.adopted import DEBUGFS, between, inside, reported, with_either
from lab.suites import contains, equal

KERNELS = ("debian", "kunit", "debug")
MIB = 1 << 20

# With one buffer for each frame, or as many as it takes.
NETS = ("pair", "pair,no-mrg-rxbuf")
# Of QEMU's cards: descriptors of a ring, and how many of them may be free before the driver fills it up (napi's budget).
RING, UNFILLED = 256, 64
# The longest block of the pool that a receive buffer takes, and what the rings take at most.
BUFFER, RINGS = 4096, 64 << 10

# Packet sockets on both interfaces, and nobody else who sends.
FRAMES = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; busybox ip link set eth0 promisc on up; busybox ip link set eth1 up\n"
XDP, PAIR = "/mnt/share/xdp", "python3 /mnt/share/pair.py"
SEND = "python3 /mnt/share/delivered.py eth1 eth0"
# TIMEOUT: where frames are lost, a stream waits for them for ever; on a busy machine all is done in a third of the time.
PATIENCE = ("--timeout", "300")
# What the driver says when it has no queues for XDP alone.
SHARED_QUEUES = "dmesg | grep -c 'XDP_TX and XDP_REDIRECT will operate in a slower locked tx mode'"

# Runs while frames are dropped; prints mappings, those that ended, and bytes that are mapped, of the guest helper.
DROPPED = f"""counts() {{ echo counts $(grep -hE '^(maps|unmaps|mapped):' {DEBUGFS}/devices/$device 2>/dev/null | cut -d' ' -f2); }}
device=$(basename $(readlink -f /sys/class/net/eth0/device))
{SEND} 1000; counts; {SEND} 4000; counts
"""


def words(line, expected):
    """The number that a line of words begins with; the others must be these."""
    number, rest = line.split(" ", 1)
    equal(rest, expected, f"what is said of {number} frames")
    return int(number)


def nothing_refused(report, number):
    """All of so many interfaces are adopted, and each buffer found its place."""
    for interface in report.adopted("net", number):
        refusals = {name: interface[name] for name in ("too_large", "fragmented", "exhausted", "quota")}
        equal(set(refusals.values()), {0}, f"refusals: {refusals}")


def test_what_is_passed_on_is_right(context):
    """By the driver with one buffer for a frame and with several, and by the stack; and after it was detached."""
    share = clients.xdp(context)
    for net, ways in ((NETS[0], (("", 1500), ("frags", 9000), ("generic", 1500))), (NETS[1], (("", 1500),))):
        script = "\n".join([*(f"{XDP} eth0 pass {how} -- {PAIR} 8 {mtu}" for how, mtu in ways), f"{PAIR} 2",
                            "cat /sys/class/net/eth0/statistics/*_dropped"])
        for driver, lines, report in with_either(context, script, "--net", net, "--share", share, *PATIENCE):
            for how, mtu in ways:
                *received, passed = [lines.pop(0) for _ in range(3)]
                what = f"with {net} {how} and {driver}"
                equal(received, [f"{8 * MIB} as sent"] * 2, f"received {what}")
                # The stack may join frames before it runs the program; one has 65536 bytes at most.
                least = 8 * MIB // (65536 if how == "generic" else mtu)
                equal(words(passed, "frames passed on") >= least, True, f"frames that went through XDP {what}: {passed}, {least} at least")
            equal(lines, [f"{2 * MIB} as sent"] * 2 + ["0", "0"], f"received afterwards, drops, with {net} and {driver}")
        nothing_refused(report, 2)


def test_what_is_dropped_stays_nowhere(context):
    """Nothing gets in; buffers come back, and the ring stays full of them."""
    share = clients.xdp(context)
    (share / "dropped.sh").write_text(DROPPED)
    script = f"{FRAMES}{SEND} 600; {XDP} eth0 drop -- sh /mnt/share/dropped.sh; {SEND} 600"
    for net in NETS:
        lines, report = reported(context, script, "--kernel", "debian", "--net", net, "--share", share, *PATIENCE)
        counts = [[int(word) for word in line.split()[1:]] for line in lines if line.startswith("counts")]
        equal([line for line in lines if not line.startswith("counts")],
              ["600 brought 600 got", "1000 brought 0 got", "4000 brought 0 got", "5000 frames dropped", "600 brought 600 got"],
              f"frames with {net}")
        for maps, unmaps, mapped in counts:
            between(maps - unmaps, RING - UNFILLED, RING + 1, f"buffers that are mapped with {net}")
            between(mapped, 0, RING * BUFFER + RINGS, f"bytes that are mapped with {net}")
        equal(counts[1][1] - counts[0][1] >= 4000, True, f"mappings that ended with {net}: {counts}")
        nothing_refused(report, 2)


def test_what_is_sent_back_is_right(context):
    """From the receive buffer itself, which stays the driver's; also a frame in several buffers. With the stack's queue, as there is one."""
    share = clients.xdp(context)
    for net, ways in ((NETS[0], (("", 1500), ("frags", 9000))), (NETS[1], (("", 1500),))):
        turns = "\n".join(f"""for i in eth0 eth1; do busybox ip link set $i mtu {mtu}; done
{XDP} eth0 turn {how} -- python3 /mnt/share/reflected.py eth1 400 3 turned""" for how, mtu in ways)
        lines, report = reported(context, f"{FRAMES}{turns}; {SHARED_QUEUES}; {PAIR} 2", "--kernel", "debian", "--net", net, "--share", share, *PATIENCE)
        for how, _ in ways:
            came, turned = lines.pop(0), lines.pop(0)
            equal((came.split()[:2], turned), (["1200", "right"], "1200 frames turned"), f"frames with {net} {how}")
        equal(lines, ["1"] + [f"{2 * MIB} as sent"] * 2, f"shared queues, and what arrives afterwards, with {net}")
        nothing_refused(report, 2)


def test_queues_of_its_own(context):
    """Two for each CPU: XDP needs no lock then. All pages the device sees meanwhile are shared."""
    share = clients.xdp(context)
    script = f"""busybox ip link set eth0 up
{XDP} eth0 turn -- python3 /mnt/share/reflected.py eth0 400 3 turned; {SHARED_QUEUES}; python3 /mnt/share/reflected.py eth0 200 2
exec 9<>/dev/lab-host; echo "vdev-pages 1" >&9; read -r pages <&9; echo "$pages" """
    lines, report = reported(context, script, "--kernel", "debian", "--smp", "2", "--vdev", "net,queues=4", "--share", share, *PATIENCE)
    there, turned, warnings, afterwards, pages = lines
    # Between queues there is no order.
    equal([there.split()[:2], afterwards.split()[:2]], [["1200", "right"], ["400", "right"]], "frames that came back")
    equal((turned, warnings), ("1200 frames turned", "0"), "frames, and warnings")
    contains(pages, "private 0 refused 0", "pages")
    nothing_refused(report, 1)


def test_long_frames_need_a_program_that_takes_several_buffers(context):
    """The driver refuses it otherwise, and says why; the stack does not."""
    share = clients.xdp(context)
    script = f"""busybox ip link set eth0 mtu 9000
for how in '' frags generic; do {XDP} eth0 pass $how -- echo attached; done 2>&1; dmesg | grep -o 'single-buffer XDP requires .*'"""
    for driver, lines, _ in with_either(context, script, "--net", "pair", "--share", share, *PATIENCE):
        equal(lines, ["xdp: eth0: Invalid argument", *["attached", "0 frames passed on"] * 2, "single-buffer XDP requires MTU less than 3506"],
              f"what is said with {driver}")


def test_unloading_while_it_is_attached(context):
    """The interfaces go, and come again without it."""
    share = clients.xdp(context)
    script = f"""{XDP} eth0 pass -- sh -c '{PAIR} 2; rmmod virtio_sev_shim'; {PAIR} 2
modprobe virtio_sev_shim; rmmod virtio_sev_shim; dmesg | grep -c -e 'virtio_sev_shim: unloaded with' -e 'left buffers mapped'; true"""
    lines = inside(context, script, "--net", "pair", "--share", share, *PATIENCE)
    words(lines.pop(2), "frames passed on")
    equal(lines, [f"{2 * MIB} as sent"] * 4 + ["0"], "what arrives before and after, and whether something stayed shared or mapped")


def test_a_debug_kernel_has_nothing_to_complain_about(context):
    """KASAN, lockdep and sleeping in atomic context, while frames go through XDP and it comes and goes."""
    share = clients.xdp(context)
    script = f"for how in '' frags generic; do {XDP} eth0 pass $how -- {PAIR} 1; done"
    for net in NETS:
        lines, report = reported(context, script, "--kernel", "debug", "--net", net, "--share", share, *PATIENCE)
        equal([line for line in lines if "sent" in line], [f"{MIB} as sent"] * 6, f"what arrives with {net}")
        nothing_refused(report, 2)
