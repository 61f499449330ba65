# SPDX-License-Identifier: GPL-2.0
"""For tests: the processes of a lab, and whether they are gone."""

import os
import time

from .suites import Failure


def running(context, *run):
    """A lab that has these arguments, whose VM has begun its COMMAND, and its processes."""
    process = context.start(*run, "--", "sh", "-c", "echo begun; sleep 1000")
    line = process.stdout.readline()
    if line != b"begun\n":
        raise Failure(f"the guest did not begin: {line!r} {process.communicate()[1]!r}")
    return process, descendants(process.pid)


def descendants(pid):
    """A process and everything below it, as (pid, start time): pids are used again."""
    children, starts = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        starts[int(name)] = fields[19]
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add((one, starts.get(one)))
        todo += children.get(one, [])
    return found


def still_there(processes):
    """Those of the processes that have not ended; zombies have."""
    left = []
    for pid, start in processes:
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            if fields[19] == start and fields[0] != "Z":
                left.append(pid)
        except OSError:
            pass
    return left


def parent(pid):
    """The pid of a process's parent."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def runs(pid, program):
    """Does the process run `program`?"""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip() == program[:15]
    except OSError:
        return False


def find(processes, program):
    """The pid among `processes` that runs `program`."""
    for pid, _ in processes:
        if runs(pid, program):
            return pid
    raise Failure(f"no {program} among the lab's processes")


def assert_gone(processes):
    """The processes end within two seconds."""
    end = time.monotonic() + 2
    while still_there(processes):
        if time.monotonic() > end:
            raise Failure(f"still running: {still_there(processes)}")
        time.sleep(0.05)
