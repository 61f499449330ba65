# SPDX-License-Identifier: GPL-2.0
"""Runs in a SEV guest of the lab with hostile devices (--vdev): uses each until it has lied often enough, and looks at what that did.

Argument: JSON with `kind` (blk or net), `modes` (a device for each, in the order of the command line, after a good one),
`ending` (those after which a device may never answer again), `digest` (of what the good disk has on it) and `secret`, whose
complement must stay private. Prints a line of JSON for each device.
"""

import contextlib
import glob
import hashlib
import json
import mmap
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time

BLOCK = 64 << 10
ROUNDS = 120
# TIMEOUT: what must end has so long on a busy machine; what need not end is given up after the shorter time.
SECONDS, ENDING_SECONDS = 180, 4
POOL = "/sys/kernel/debug/virtio_sev_shim"
PROTOCOL = 0x88b5
FRAME = b"\x02\0\0\0\0\1" + bytes(6) + PROTOCOL.to_bytes(2, "big")


def main():
    plan = json.loads(sys.argv[1])
    hide(bytes(byte ^ 0xff for byte in bytes.fromhex(plan["secret"])))
    driver, attack, check = {"blk": ("virtio_blk", attack_disk, check_disk), "net": ("virtio_net", attack_card, check_card)}[plan["kind"]]
    # In the order of the command line, which is that of the bus.
    devices = sorted((os.path.basename(path) for path in glob.glob(f"/sys/bus/virtio/drivers/{driver}/virtio*")),
                     key=lambda name: int(name.removeprefix("virtio")))
    names = [os.listdir(glob.glob(f"/sys/bus/virtio/devices/{device}/{'block' if plan['kind'] == 'blk' else 'net'}")[0])[0]
             for device in devices]
    if len(devices) != len(plan["modes"]) + 1:
        sys.exit(f"there are {devices}")
    for mode, device, name in zip(plan["modes"], devices[1:], names[1:]):
        patience = ENDING_SECONDS if mode in plan["ending"] else SECONDS
        result = {"mode": mode, **in_child(lambda say: attack(name, say), patience)}
        log = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
        result["broken"] = bool(re.search(rf" {device}: .*(is not a head|out of range)", log))
        result["good"] = check(names[0], plan)
        result["unbind"] = in_child(lambda say: unbind(driver, device), patience)["ended"]
        # What still writes to shared memory after it is gone may hit what a good device is at; it does not go on for long.
        result["good_after"] = any(check(names[0], plan) or time.sleep(1) for _ in range(10))
        result |= account(device)
        print(json.dumps(result), flush=True)


def hide(secret):
    """Leave the secret in private memory, and beside what devices are given."""
    with open("/tmp/secret", "wb") as file:
        file.write(secret)
    global page
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[1024:1024 + len(secret)] = secret


def in_child(function, patience):
    """What a function reported last, from a process that may never end; and whether it has."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        with contextlib.suppress(OSError):
            function(lambda report: os.write(writer, json.dumps(report).encode() + b"\n"))
        os._exit(0)
    os.close(writer)
    text, ended, end = b"", False, time.monotonic() + patience
    while not ended and time.monotonic() < end:
        if select.select([reader], [], [], 0.2)[0]:
            data = os.read(reader, 65536)
            ended = not data
            text += data
            # Whoever makes progress is not hung.
            end = time.monotonic() + patience
    if not ended:
        os.kill(child, signal.SIGKILL)  # a system call that waits for the device does not notice
    os.close(reader)
    reports = text.splitlines()
    return {**(json.loads(reports[-1]) if reports else {}), "ended": ended}


def attack_disk(name, say):
    """Read and write; what was read must not change afterwards, what was written must not change at all."""
    disk = os.open(f"/dev/{name}", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, BLOCK)
    found = {"done": 0, "errors": 0, "wrong": 0, "changed": 0, "spoilt": 0}
    random.seed(1)
    # What is where, as far as it was written; the pattern is not looked at.
    known = {}
    for number in range(ROUNDS):
        block = random.randrange(8)
        try:
            if number % 3 == 0:
                data = random.randbytes(BLOCK)
                buffer[:] = data
                known.pop(block, None)
                os.pwrite(disk, buffer, block * BLOCK)
                found["spoilt"] += buffer[:] != data
                known[block] = data
                # The rest of this page is nobody's business.
                os.pwrite(disk, memoryview(page)[:512], 15 * BLOCK)
            else:
                os.preadv(disk, [buffer], block * BLOCK)
                first = buffer[:]
                time.sleep(0.002)
                found["changed"] += buffer[:] != first
                found["wrong"] += block in known and first != known[block]
        except OSError:
            found["errors"] += 1
        found["done"] += 1
        say(found)


def check_disk(name, plan):
    """Whether the good disk reads right, and keeps what is written to it."""
    disk = os.open(f"/dev/{name}", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)
    try:
        os.preadv(disk, [buffer], 0)
        right = hashlib.sha256(buffer).hexdigest() == plan["digest"]
        buffer[:] = data = random.randbytes(1 << 20)
        os.pwrite(disk, buffer, 1 << 20)
        buffer[:] = bytes(1 << 20)
        os.preadv(disk, [buffer], 1 << 20)
        return right and buffer[:] == data
    finally:
        os.close(disk)


def attack_card(name, say):
    """Send frames and let them come back as they may."""
    subprocess.run(["ip", "link", "set", name, "up"])
    received = f"/sys/class/net/{name}/statistics/rx_packets"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((name, 0))
        found = {"done": 0, "errors": 0}
        for number in range(ROUNDS):
            try:
                sender.send(FRAME + random.randbytes(60 + number * 11))
            except OSError:
                found["errors"] += 1
            found["done"] += 1
            with open(received) as file:
                say({**found, "received": int(file.read())})
            time.sleep(0.002)


def check_card(name, plan):
    """Whether every frame comes back on the good card."""
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    result = subprocess.run(["python3", "/mnt/share/reflected.py", name, "40", "1"], capture_output=True, text=True)
    return result.stdout == "40 right 0 late\n"


def unbind(driver, device):
    with open(f"/sys/bus/virtio/drivers/{driver}/unbind", "w") as file:
        file.write(device)


def account(device):
    """What the guest helper says it still holds for a device, if it has adopted it."""
    try:
        with open(f"{POOL}/devices/{device}") as file:
            return {"held": dict(line.rstrip().split(": ", 1) for line in file).get("mapped")}
    except OSError:
        return {}


main()
# Not the usual end: a child that hangs would be waited for.
os._exit(0)
