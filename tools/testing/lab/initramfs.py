# SPDX-License-Identifier: GPL-2.0
"""The guest's initramfs: busybox, guest-init.sh, the modules needed to reach the tool root, and what to run."""

import lzma
import shlex

from .faults import NV_DIRECTORY
from .paths import LAB

# Kernel modules between the initramfs and the tool root, dependencies first. Missing ones are built in.
BOOT_MODULES = ("netfs", "9pnet", "9p", "9pnet_virtio", "overlay")

# The programs of busybox that guest-init.sh uses. Installing all 400 inside takes longer than what it does with them.
APPLETS = ("cat", "chroot", "grep", "hostname", "insmod", "ip", "ln", "mkdir", "mkfifo", "mount", "poweroff", "sed", "setsid",
           "sleep", "stty", "usleep")

DIRECTORIES = ("bin", "boot", "dev", "lib", "proc", "sys")


def build(root, modules_dir, drivers, command, stdin, terminal, share, nv):
    """The initramfs as bytes.

    `modules_dir` is lib/modules/RELEASE, `drivers` are arguments for modprobe, `command` an argument list,
    `terminal` is (TERM, rows, columns) or None, `stdin` and `share` say whether there is one, `nv` is what NV_DIRECTORY
    is like: "full", "read-only" or None.
    """
    archive = Cpio()
    for directory in DIRECTORIES:
        archive.directory(directory)
    archive.file("bin/busybox", (root / "usr/bin/busybox").read_bytes(), 0o755)
    for applet in APPLETS:
        archive.symlink(f"bin/{applet}", "busybox")
    # The kernel looks for firmware and other files where its first process has its root; COMMAND has the tool root.
    for name in ("lib/firmware", "var", "mnt"):
        archive.symlink(name, f"/root/{name}")
    archive.file("init", (LAB / "guest-init.sh").read_bytes(), 0o755)
    loaded = []
    for name in BOOT_MODULES:
        found = sorted(modules_dir.rglob(f"{name}.ko*"))
        if found:
            archive.file(f"boot/{name}.ko", _module_bytes(found[0]))
            loaded.append(f"{name}.ko")
    archive.file("modules", _lines(loaded))
    archive.file("drivers", _lines(drivers))
    archive.file("command", f"exec {shlex.join(command)}".encode())
    if terminal:
        archive.file("interactive", " ".join(map(str, terminal)).encode())
    if stdin:
        archive.file("stdin", b"")
    if share:
        archive.file("has-share", b"")
    archive.file("nv", f"{NV_DIRECTORY} {nv or 'writable'}".encode())
    return archive.finish()


def _lines(items):
    return "".join(f"{item}\n" for item in items).encode()


def _module_bytes(path):
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


class Cpio:
    """A cpio archive in the "newc" format, the one the kernel unpacks (Documentation/driver-api/early-userspace)."""

    def __init__(self):
        self._parts = []
        self._inode = 0

    def directory(self, name):
        """Add an empty directory."""
        self._add(name, 0o040755, b"")

    def file(self, name, contents, mode=0o644):
        """Add a regular file."""
        self._add(name, 0o100000 | mode, contents)

    def symlink(self, name, target):
        """Add a symbolic link."""
        self._add(name, 0o120777, target.encode())

    def finish(self):
        """The archive's bytes."""
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, name, mode, contents):
        self._inode += 1
        encoded = name.encode() + b"\0"
        # inode mode uid gid nlink mtime size dev(2) rdev(2) name-size checksum
        numbers = (self._inode, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % number for number in numbers)
        self._parts += [_padded(header + encoded), _padded(contents)]


def _padded(data):
    return data + bytes(-len(data) % 4)
