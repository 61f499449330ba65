# SPDX-License-Identifier: GPL-2.0
"""Runs in a SEV guest of the lab: writes random markers to its memory and asks the host what it sees of them.

Prints the host's count of the markers, and of what a device reads where the first one is: whether the marker is there,
and how many of the page's bytes are zero.
"""

import mmap
import os

MARKERS = 64
PAGE = mmap.PAGESIZE


def main():
    memory = mmap.mmap(-1, MARKERS * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    common = os.urandom(12)
    markers = [common + number.to_bytes(4, "little") for number in range(MARKERS)]
    for number, marker in enumerate(markers):
        memory[number * PAGE:number * PAGE + len(marker)] = marker
    complements = " ".join(bytes(byte ^ 0xff for byte in marker).hex() for marker in markers)
    with open("/dev/lab-host", "r+b", buffering=0) as host:
        print(ask(host, f"find-complement {complements}"))
        page = bytes.fromhex(ask(host, f"device-read {physical_address(memory):#x} {PAGE}"))
    print(f"marker {markers[0] in page} zeros {page.count(0)}")


def ask(host, request):
    """The host's answer to a request."""
    host.write(request.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        answer += host.read(65536)
    return answer.decode().strip()


def physical_address(memory):
    """Where a page of this process is in the guest's physical memory (Documentation/admin-guide/mm/pagemap.rst)."""
    import ctypes
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // PAGE * 8)
        entry = int.from_bytes(pagemap.read(8), "little")
    if not entry >> 63:
        raise SystemExit("the page is not in memory")
    return (entry & ((1 << 55) - 1)) * PAGE


main()
