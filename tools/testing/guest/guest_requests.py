# SPDX-License-Identifier: GPL-2.0
"""Runs in a guest: makes ioctls of /dev/sev-guest and prints a line for each: what became of it, and EXITINFO2.

guest_requests.py IOCTL...; IOCTL is `report`, `key`, or `certificates:LENGTH`, which also prints the length that came back. The
answer's buffer is filled with 0xee before; `stale` says that some of what ought to be zeros is not after a success, or
that any of it changed after a failure.
"""

import ctypes
import errno
import fcntl
import sys

NUMBERS = {"report": 0xC0205300, "key": 0xC0205301, "certificates": 0xC0205302}
LENGTHS = {"report": 4000, "key": 64, "certificates": 4000}
# What is zero in every answer: all behind a report, and what stands before a key.
ZEROS = {"report": slice(1216, 4000), "key": slice(0, 32), "certificates": slice(1216, 4000)}
UNTOUCHED = 0xDEADBEEF


class Call(ctypes.Structure):
    _fields_ = [("msg_version", ctypes.c_uint8), ("request", ctypes.c_uint64), ("response", ctypes.c_uint64),
                ("exitinfo2", ctypes.c_uint64)]


def request(name, certificates, length):
    if name == "key":
        return (ctypes.c_uint8 * 32)()
    if name == "report":
        return (ctypes.c_uint8 * 96)()
    extended = (ctypes.c_uint8 * 112)()
    ctypes.c_uint64.from_buffer(extended, 96).value = ctypes.addressof(certificates)
    ctypes.c_uint32.from_buffer(extended, 104).value = length
    return extended


def run(device, spec):
    name, _, length = spec.partition(":")
    certificates = (ctypes.c_uint8 * 16384)()
    asked = request(name, certificates, int(length or 0))
    answer = (ctypes.c_uint8 * LENGTHS[name])(*([0xEE] * LENGTHS[name]))
    call = Call(1, ctypes.addressof(asked), ctypes.addressof(answer), UNTOUCHED)
    outcome = "ok"
    try:
        fcntl.ioctl(device, NUMBERS[name], call)
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    words = [outcome, f"{call.exitinfo2:#x}"]
    if name == "certificates":
        words.append(str(ctypes.c_uint32.from_buffer(asked, 104).value))
    if any(answer[ZEROS[name]]) if outcome == "ok" else set(answer) != {0xEE}:
        words.append("stale")
    print(*words)


def main():
    with open("/dev/sev-guest", "rb") as device:
        for spec in sys.argv[1:]:
            run(device, spec)


if __name__ == "__main__":
    main()
