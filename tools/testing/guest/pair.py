# SPDX-License-Identifier: GPL-2.0
"""Sends bytes both ways at once between the interfaces of `tools/lab run --net pair`; run inside: `pair.py MIB [MTU]`.

The second interface goes into a network namespace (a process of its own that has left the others'), so that the bytes really
travel. Prints what each side received and its SHA-256, and fails unless that is what the other has sent. The streams are
random, but each is its seed's.
"""

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time

PORT = 7000
ADDRESSES = "10.0.0.1", "10.0.0.2"
CHUNK = 1 << 20


def interface(name, address, mtu):
    """Bring an interface up."""
    for arguments in (f"addr flush dev {name}", f"addr add {address}/24 dev {name}", f"link set {name} mtu {mtu}",
                      f"link set {name} up"):
        subprocess.run(["busybox", "ip", *arguments.split()], check=True)


def chunks(seed, mebibytes):
    """The stream of one side."""
    source = random.Random(seed)
    for _ in range(mebibytes):
        yield source.randbytes(CHUNK)


def send(connection, seed, mebibytes):
    for chunk in chunks(seed, mebibytes):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def exchange(connection, own, other, mebibytes):
    """Send one stream, receive the other; whether it arrived as it was sent."""
    sender = threading.Thread(target=send, args=(connection, own, mebibytes))
    sender.start()
    received, length = hashlib.sha256(), 0
    while data := connection.recv(CHUNK):
        received.update(data)
        length += len(data)
    sender.join()
    expected = hashlib.sha256()
    for chunk in chunks(other, mebibytes):
        expected.update(chunk)
    good = received.digest() == expected.digest()
    print(f"{length} {'as sent' if good else 'DIFFERENT'}", flush=True)
    return good


def main():
    mebibytes, mtu = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    moved, listening = os.pipe(), os.pipe()
    while not os.path.exists("/sys/class/net/eth1"):  # it comes back some time after the namespace of an earlier run
        time.sleep(0.1)
    child = os.fork()
    if child == 0:
        os.unshare(os.CLONE_NEWNET)
        os.write(listening[1], b".")
        os.read(moved[0], 1)
        interface("eth1", ADDRESSES[1], mtu)
        server = socket.create_server((ADDRESSES[1], PORT))
        os.write(listening[1], b".")
        os._exit(0 if exchange(server.accept()[0], 2, 1, mebibytes) else 1)
    os.read(listening[0], 1)
    subprocess.run(["busybox", "ip", "link", "set", "eth1", "netns", str(child)], check=True)
    interface("eth0", ADDRESSES[0], mtu)
    os.write(moved[1], b".")
    os.read(listening[0], 1)
    good = exchange(socket.create_connection((ADDRESSES[1], PORT), timeout=60), 1, 2, mebibytes)
    sys.exit(0 if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and good else 1)


if __name__ == "__main__":
    main()
