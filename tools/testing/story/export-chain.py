#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Export the platform's certificate chain: export-chain.py CEK OUT.

Writes PDH, PEK, OCA and CEK, as `sevctl verify --sev` takes them. `sevctl export` does the same with a CEK that it
fetches from AMD's key server by the chip's id; nobody serves the CEK of an emulated chip, so it comes from a file.
"""

import ctypes
import errno
import fcntl
import os
import sys

SEV_ISSUE_CMD = 0xC0105300
SEV_PDH_CERT_EXPORT = 5
CERT_LEN = 2084


class IssueCmd(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("cmd", ctypes.c_uint32), ("data", ctypes.c_uint64), ("error", ctypes.c_uint32)]


class PdhCertExport(ctypes.Structure):
    _pack_ = 1
    _fields_ = [
        ("pdh_address", ctypes.c_uint64), ("pdh_len", ctypes.c_uint32),
        ("chain_address", ctypes.c_uint64), ("chain_len", ctypes.c_uint32),
    ]


def issue(fd, export):
    """Runs PDH_CERT_EXPORT; returns errno and the firmware's status."""
    command = IssueCmd(SEV_PDH_CERT_EXPORT, ctypes.addressof(export), 0)
    try:
        fcntl.ioctl(fd, SEV_ISSUE_CMD, command)
    except OSError as error:
        return error.errno, command.error
    return 0, command.error


def export(fd):
    """PDH certificate and chain, as the firmware gives them."""
    query = PdhCertExport()
    if issue(fd, query) != (errno.EIO, 4):
        sys.exit("export-chain: the firmware does not tell how long its certificates are")
    pdh = ctypes.create_string_buffer(query.pdh_len)
    chain = ctypes.create_string_buffer(query.chain_len)
    request = PdhCertExport(ctypes.addressof(pdh), len(pdh), ctypes.addressof(chain), len(chain))
    error, status = issue(fd, request)
    if error:
        sys.exit(f"export-chain: {os.strerror(error)}, firmware status {status:#x}")
    return pdh.raw[:request.pdh_len], chain.raw[:request.chain_len]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        cek = file.read()
    fd = os.open("/dev/sev", os.O_RDWR)
    pdh, chain = export(fd)
    pek, oca = chain[:CERT_LEN], chain[CERT_LEN:2 * CERT_LEN]
    with open(sys.argv[2], "wb") as file:
        file.write(pdh + pek + oca + cek)


if __name__ == "__main__":
    main()
