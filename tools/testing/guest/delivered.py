# SPDX-License-Identifier: GPL-2.0
"""Sends frames from one interface to another and looks for what comes in; run inside: `delivered.py FROM TO COUNT`.

Prints how many frames the receiver's device has brought, and how many of them a program got, each of which must be as it was
sent. Needs packet sockets; nobody else must send anything.
"""

import random
import select
import socket
import struct
import sys
import time

# For experiments in a local network (IEEE 802).
PROTOCOL = 0x88b5
LONGEST = 1500
# Room for all frames; the socket module lacks the name (include/uapi/asm-generic/socket.h).
SO_RCVBUFFORCE = 33
# TIMEOUT: all frames are there in a moment, on a busy machine.
SECONDS = 30
# Between the device's count and the socket there is one poll of the driver's.
MOMENT = 1


def address(interface):
    """An interface's MAC address."""
    with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
        return bytes.fromhex(file.read().strip().replace(":", ""))


def brought(interface):
    """How many frames its device has brought."""
    with open(f"/sys/class/net/{interface}/statistics/rx_packets", encoding="ascii") as file:
        return int(file.read())


def frame(receiver, sender, number):
    """A frame whose payload can be told from its number."""
    payload = random.Random(number).randbytes(42 + number * 37 % (LONGEST - 42 - 4))
    return receiver + sender + struct.pack(">HI", PROTOCOL, number) + payload


def main():
    source, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    own, peer = address(target), address(source)
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(PROTOCOL))
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    receiver.bind((target, PROTOCOL))
    before = brought(target)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((source, 0))
        for number in range(count):
            sender.send(frame(own, peer, number))
    deadline = time.monotonic() + SECONDS
    while brought(target) - before < count and time.monotonic() < deadline:
        time.sleep(0.05)
    got = 0
    while select.select([receiver], [], [], MOMENT)[0]:
        data = receiver.recv(65536)
        number, = struct.unpack_from(">I", data, 14)
        if not data.startswith(frame(own, peer, number)):
            sys.exit(f"frame {number} has changed")
        got += 1
    print(f"{brought(target) - before} brought {got} got", flush=True)


main()
