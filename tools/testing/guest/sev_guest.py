# SPDX-License-Identifier: GPL-2.0
"""A client of /dev/sev-guest, for tests inside a guest. It has its own definitions of the ABI (include/uapi/linux/sev-guest.h), so
that a mistake in the driver's shows.

sev_guest.py IOCTL...; IOCTL is `report`, `key`, or `certificates:LENGTH`. `data:FILE` has the 64 bytes that the reports after it
are about, instead of zeros. Prints a line for each: what became of it, and exitinfo2;
of certificates also the length that came back. `stale` says that some of what ought to be zeros is not after a success, or that
any of the answer's buffer changed after a failure.
"""

import ctypes
import errno
import fcntl
import os
import struct
import sys

GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT = 0xC0205300, 0xC0205301, 0xC0205302
# What the answer's buffer is filled with before.
FILLING = 0xAA
# What is zero in every answer: all behind a report, and what stands before a key.
BEHIND_REPORT, BEFORE_KEY = slice(1216, 4000), slice(0, 32)
# What the caller had in the field, to see whether it was written.
UNTOUCHED = 0x5555555555555555


class Call(ctypes.Structure):
    """struct snp_guest_request_ioctl."""

    _fields_ = [("msg_version", ctypes.c_uint8), ("request", ctypes.c_uint64), ("response", ctypes.c_uint64),
                ("exitinfo2", ctypes.c_uint64)]


def open_device():
    return os.open("/dev/sev-guest", os.O_RDWR)


def call(fd, number, request, response, msg_version=1):
    """One ioctl with addresses; (errno name or OK, exitinfo2 or None if it was not written)."""
    argument = Call(msg_version, request, response, UNTOUCHED)
    try:
        fcntl.ioctl(fd, number, argument)
        outcome = "OK"
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    return outcome, None if argument.exitinfo2 == UNTOUCHED else hex(argument.exitinfo2)


def ask(fd, number, request, length, **options):
    """One ioctl with a request's bytes; outcome, exitinfo2, the request afterwards, the response."""
    request = ctypes.create_string_buffer(bytes(request), len(request))
    response = ctypes.create_string_buffer(bytes([FILLING]) * length, length)
    outcome = call(fd, number, ctypes.addressof(request), ctypes.addressof(response), **options)
    return *outcome, request.raw, response.raw


def report(fd, data=bytes(64), vmpl=0, key=0, **options):
    """A report about 64 bytes: outcome, exitinfo2, its status, the report."""
    outcome, info, _, response = ask(fd, GET_REPORT, data + struct.pack("<II24x", vmpl, key), 4000, **options)
    status, length = struct.unpack_from("<II", response)
    return outcome, info, status, response[32:32 + length] if outcome == "OK" else response


def derived_key(fd, root=0, fields=0, vmpl=0, svn=0, tcb=0):
    """A key: outcome, exitinfo2, its status, the key."""
    request = struct.pack("<IIQIIQ", root, 0, fields, vmpl, svn, tcb)
    outcome, info, _, response = ask(fd, GET_DERIVED_KEY, request, 64)
    return outcome, info, struct.unpack_from("<I", response)[0], response[32:]


def ext_report(fd, length, data=bytes(64)):
    """A report and certificates: outcome, exitinfo2, certs_len afterwards, the response, the certificates."""
    certs = ctypes.create_string_buffer(b"\xbb" * max(length, 1), max(length, 1))
    request = data + bytes(32) + struct.pack("<QI4x", ctypes.addressof(certs), length)
    outcome, info, request, response = ask(fd, GET_EXT_REPORT, request, 4000)
    return outcome, info, struct.unpack_from("<I", request, 104)[0], response, certs.raw


def main():
    fd, data = open_device(), bytes(64)
    for spec in sys.argv[1:]:
        name, _, length = spec.partition(":")
        more = ()
        if name == "data":
            with open(length, "rb") as file:
                data = file.read(64)
            continue
        if name == "certificates":
            outcome, info, back, response, _ = ext_report(fd, int(length), data)
            more = (back,)
        else:
            number, request, length = {
                "report": (GET_REPORT, data + bytes(32), 4000), "key": (GET_DERIVED_KEY, bytes(32), 64)}[name]
            outcome, info, _, response = ask(fd, number, request, length)
        zeros = response[BEFORE_KEY if name == "key" else BEHIND_REPORT]
        if any(zeros) if outcome == "OK" else set(response) != {FILLING}:
            more += ("stale",)
        print(outcome, info or "untouched", *more, flush=True)


if __name__ == "__main__":
    main()
