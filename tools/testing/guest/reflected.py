# SPDX-License-Identifier: GPL-2.0
"""Runs in a VM of the lab with a --vdev net: sends numbered frames of all sizes and looks for each coming back.

Arguments: the interface, how many frames, and how many threads send. Prints how many came back right, and how many came back
out of order. Needs packet sockets.
"""

import random
import socket
import struct
import sys
import threading

# For experiments in a local network (IEEE 802).
PROTOCOL = 0x88b5
# Thread and number, after the Ethernet header.
HEADER = 5
PEER = b"\x02\0\0\0\0\1"
MOST = 1500
# Room for all frames; the socket module lacks the name (include/uapi/asm-generic/socket.h).
SO_RCVBUFFORCE = 33
# TIMEOUT: a frame comes back at once, on a busy machine.
SECONDS = 30


def frame(own, thread, number):
    """A frame whose payload can be told from its number."""
    payload = random.Random(number << 8 | thread).randbytes(46 + number * 37 % (MOST - 46 - HEADER))
    return PEER + own + struct.pack(">HBI", PROTOCOL, thread, number) + payload


def main():
    interface, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(PROTOCOL))
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    receiver.bind((interface, PROTOCOL))
    receiver.settimeout(SECONDS)
    own = receiver.getsockname()[4]

    def send(thread):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind((interface, 0))
            for number in range(count):
                sender.send(frame(own, thread, number))

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
            expected = frame(own, thread, number)
            expected = expected[6:12] + expected[:6] + expected[12:]
            if not got.startswith(expected):
                sys.exit(f"frame {number} of thread {thread} has changed")
            right += 1
            late += number < last[thread]
            last[thread] = number
    except TimeoutError:
        pass
    for sender in senders:
        sender.join()
    print(f"{right} right {late} late")


main()
