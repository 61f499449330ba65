# SPDX-License-Identifier: GPL-2.0
"""What a SEV guest may ask its host: what the host sees of it.

Requests are lines that a program of the guest writes to /dev/lab-host, answers are lines that it reads there:

    find-complement HEX...      `shared N private M`: how many of these byte strings are in which memory. What is looked for is
                                the complement of HEX, because the request itself comes through shared memory.
    device-read ADDRESS LENGTH  the bytes that a device reads at a guest-physical address, in hexadecimal
    shared-pages                `shared N`: how many pages are mapped shared by the kernel's page tables, anywhere
    plug N                      `plugged ID`: the device of the Nth --hotplug has been plugged in
    unplug N                    `unplugging ID`: the guest has been asked to let it go
    balloon MIB                 `balloon MIB`: a balloon is to leave the guest so much memory
    vdev-pages N                `touched N private M refused K ADDRESS...`: what the page tables say of all pages the Nth --vdev was
                                given so far: how many are not shared; and how many accesses were to what is no memory for it
    map                         `mapped FILE`: a picture of which pages are shared now has been taken (`lab run --map`)

A request that makes no sense is answered by `error WHY`. No virtual CPU runs while the host looks.
"""

from .errors import LabError
from .guest_memory import SHORTEST

# What fits in an answer, and in the socket it goes through.
LONGEST_READ = 4096


class HostView:
    """Answers requests about a `GuestMemory`. `take_map` takes a picture; its file's name. `hotplug` are devices.

    `compare` compares the pages of a --vdev, by its number.
    """

    def __init__(self, memory, qmp, reply, take_map, hotplug, compare):
        self._memory, self._qmp, self._reply, self._take_map, self._hotplug = memory, qmp, reply, take_map, hotplug
        self._compare = compare
        self._rest = b""

    def feed(self, data):
        """Take what the guest wrote."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            try:
                answer = self._answer(words)
            except LabError as error:
                answer = f"error {error}"
            except ValueError:
                answer = f"error a number is none in {' '.join(words)}"
            self._reply(f"{answer}\n".encode())

    def _answer(self, words):
        match words:
            case ["find-complement", *patterns] if patterns:
                patterns = [complement(pattern) for pattern in patterns]
                with self._qmp.stopped():
                    return "shared {} private {}".format(*self._memory.find(patterns))
            case ["device-read", address, length]:
                address, length = int(address, 0), int(length, 0)
                if length > LONGEST_READ:
                    raise LabError(f"at most {LONGEST_READ} bytes")
                with self._qmp.stopped():
                    return self._memory.read(address, length).hex()
            case ["shared-pages"]:
                return f"shared {self._memory.shared_pages(self._qmp)}"
            case ["plug", number]:
                device = self._plugged(number)
                self._qmp.execute("device_add", **device)
                return f"plugged {device['id']}"
            case ["unplug", number]:
                name = self._plugged(number)["id"]
                self._qmp.execute("device_del", id=name)
                return f"unplugging {name}"
            case ["balloon", mebibytes]:
                self._qmp.execute("balloon", value=int(mebibytes) << 20)
                return f"balloon {mebibytes}"
            case ["vdev-pages", number]:
                return self._compare(int(number))
            case ["map"]:
                return f"mapped {self._take_map()}"
        raise LabError("no such request")

    def _plugged(self, number):
        if not 1 <= int(number) <= len(self._hotplug):
            raise LabError(f"there is no --hotplug number {number}")
        return self._hotplug[int(number) - 1]


def complement(text):
    """The bytes whose complement is `text` in hexadecimal."""
    pattern = bytes(byte ^ 0xff for byte in bytes.fromhex(text))
    if len(pattern) < SHORTEST:
        raise LabError(f"{text} is shorter than {SHORTEST} bytes")
    return pattern
