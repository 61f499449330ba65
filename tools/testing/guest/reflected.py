# SPDX-License-Identifier: GPL-2.0
"""Sends numbered frames of all sizes and looks for each coming back; run inside: `reflected.py INTERFACE COUNT THREADS [turned]`.

They come back from a --vdev net, or from who runs `xdp ... turn` (xdp.c); `turned` if they must bear that one's mark. Prints how
many came back right, and how many came back out of order. Needs packet sockets.
"""

import fcntl
import random
import socket
import struct
import sys
import threading
import time

# For experiments in a local network (IEEE 802). The second is the mark.
PROTOCOL, TURNED = 0x88b5, 0x88b6
# Thread and number, after the Ethernet header.
HEADER = 5
PEER = b"\x02\0\0\0\0\1"
# So many are under way at once: half a ring, as XDP drops what its ring has no room for.
WINDOW = 128
# Room for all frames; the socket module lacks the name (include/uapi/asm-generic/socket.h).
SO_RCVBUFFORCE = 33
# Flags of an interface (include/uapi/linux/sockios.h), and a struct ifreq with its name.
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFREQ = "16s24x"
# TIMEOUT: a frame comes back at once, on a busy machine.
SECONDS = 30


def frame(receiver, sender, protocol, thread, number, mtu):
    """A frame whose payload can be told from its number."""
    payload = random.Random(number << 8 | thread).randbytes(46 + number * 37 % (mtu - 46 - HEADER))
    return receiver + sender + struct.pack(">HBI", protocol, thread, number) + payload


def wait_for_link(interface):
    """An interface that was just set up throws frames away until the kernel has seen that it has a link."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with open(f"/sys/class/net/{interface}/operstate", encoding="ascii") as file:
            if file.read().strip() in ("up", "unknown"):
                return wait_for_queue(interface)
        time.sleep(0.02)
    sys.exit(f"{interface} has no link")


def wait_for_queue(interface):
    """It says that it is up before it has a queue (linkwatch_do_dev(), net/core/link_watch.c), but under a lock that setting flags takes, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack(IFREQ, interface.encode()))
        fcntl.ioctl(control, SIOCSIFFLAGS, flags)


def main():
    interface, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    expected = TURNED if sys.argv[4:] == ["turned"] else PROTOCOL
    with open(f"/sys/class/net/{interface}/mtu", encoding="ascii") as file:
        mtu = int(file.read())
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(expected))
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    receiver.bind((interface, expected))
    receiver.settimeout(SECONDS)
    own = receiver.getsockname()[4]
    wait_for_link(interface)

    room = threading.Semaphore(WINDOW)

    def send(thread):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind((interface, 0))
            for number in range(count):
                room.acquire()
                sender.send(frame(PEER, own, PROTOCOL, thread, number, mtu))

    senders = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for sender in senders:
        sender.start()
    right = late = 0
    last = [-1] * threads
    try:
        while right < count * threads:
            got, (_, _, kind, _, _) = receiver.recvfrom(65536)
            if kind == socket.PACKET_OUTGOING:
                continue
            thread, number = struct.unpack_from(">BI", got, 14)
            # Sender and receiver are exchanged; frames shorter than a card sends are padded.
            if not got.startswith(frame(own, PEER, expected, thread, number, mtu)):
                sys.exit(f"frame {number} of thread {thread} has changed")
            room.release()
            right += 1
            late += number < last[thread]
            last[thread] = number
    except TimeoutError:
        pass
    room.release(count * threads)
    for sender in senders:
        sender.join()
    print(f"{right} right {late} late")


main()
