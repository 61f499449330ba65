# SPDX-License-Identifier: GPL-2.0
"""Cache entries: directories named by a hash of everything they are made from.

An entry counts once its mark is there, which is made last; what an interrupted build left is removed by the next.
(Not renamed when complete: build trees of the kernel know their own path.) One lock per kind makes builders wait for each other; one lock per entry, held shared by its users, keeps
it from being removed while in use.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError
from .paths import CHECKOUT, build_root, cache_root

# Entries of one kind that stay: the one in use and the one before it, so that going back and forth is cheap.
KEPT = 2

MARK = ".complete"

# Locks of the entries this process uses; they live as long as the process.
_in_use = {}


@contextmanager
def locked(name, what):
    """Hold the lock `name` exclusively; tell the user when another lab holds it."""
    path = cache_root() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"lab: waiting for another lab that is busy with {what}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entry(kind, key, what, build, space_mib=0):
    """The directory of entry `key` of `kind`, filled by `build(directory)` when it does not exist yet.

    `what` names it for people, `space_mib` is the disk space the build needs.
    """
    path = cache_root() / kind / key
    if _use(path):
        return path
    with locked(kind, what):
        if _use(path):  # another lab built it while this one waited
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path.parent)
        _check_space(path.parent, space_mib, what)
        path.mkdir()
        try:
            build(path)
            (path / MARK).touch()
        except BaseException:
            remove(path)
            raise
        _use(path)
        _remove_stale(path)
    return path


def find(kind, key):
    """The directory of entry `key` of `kind`, or None when nobody has made it."""
    path = cache_root() / kind / key
    return path if _use(path) else None


def claim_builds():
    """Note whose the object files of this checkout are. If it has none yet, those of checkouts that are gone go."""
    note = build_root() / "checkout"
    if note.exists():
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    for other in note.parent.parent.glob("*/checkout"):
        if not Path(other.read_text()).exists():
            remove(other.parent)
    note.write_text(str(CHECKOUT))


def remove(path):
    """Remove a file or directory tree, whatever its permissions."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():  # directories without write permission, when not root
            subprocess.run(["chmod", "-R", "u+rwX", str(path)], check=False)
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_all():
    """Remove every cache of the project; refuses while another lab uses one."""
    root = cache_root()
    if not root.exists():
        return
    for lock in root.glob("*/*.lock"):
        if not _lock_if_free(lock):
            raise LabError(f"{lock.with_suffix('')} is in use by another lab; nothing was removed")
    remove(root)


def _lock_path(path):
    return path.parent / (path.name + ".lock")


def _use(path):
    """Note that this process uses `path`; False when it does not exist."""
    if path in _in_use:
        return True
    if not (path / MARK).exists():
        return False
    lock = open(_lock_path(path), "a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not (path / MARK).exists():  # removed between the look and the lock
        lock.close()
        return False
    os.utime(_lock_path(path))
    _in_use[path] = lock
    return True


def _lock_if_free(lock):
    file = open(lock, "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _remove_unfinished(directory):
    # The lock of the kind is held: nobody is building here now.
    for path in directory.iterdir():
        if path.is_dir() and not (path / MARK).exists():
            remove(path)


def _remove_stale(current):
    locks = sorted(current.parent.glob("*.lock"), key=lambda lock: lock.stat().st_mtime, reverse=True)
    for lock in locks[KEPT:]:
        held = _lock_if_free(lock)
        if held is None:
            continue
        remove(lock.parent / lock.name[: -len(".lock")])
        lock.unlink()
        held.close()


def _check_space(directory, needed_mib, what):
    free_mib = shutil.disk_usage(directory).free >> 20
    if free_mib < needed_mib:
        raise LabError(
            f"{what} needs {needed_mib} MiB of disk space, {directory} has {free_mib} MiB left; "
            "make room, or set XDG_CACHE_HOME to a directory on a larger disk"
        )
