# SPDX-License-Identifier: GPL-2.0
"""Runs one command in namespaces of its own, in most cases with the tool root as its root directory.

Started by sandbox.py as a program of its own: `nsinit.py SPEC`, SPEC being JSON (see `sandbox.Sandbox`).

Three processes: this one waits; its child is process 1 of a new PID namespace and prepares the mounts; that one's
child is the command. Each asks the kernel to be killed when its parent dies (PR_SET_PDEATHSIG), and when process 1
dies the kernel kills all others of its namespace and drops its mounts. So nothing can outlive the lab, not even
when the lab is killed with SIGKILL. Only the standard library and no import of the package: start-up time counts.
"""

import ctypes
import json
import os
import signal
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def die_with_parent(parent):
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    # 0: the parent is outside this PID namespace, and alive as long as its death has not killed us.
    if os.getppid() not in (parent, 0):
        os._exit(1)


def mount(source, target, fstype=None, flags=0, data=None):
    encode = lambda text: None if text is None else str(text).encode()
    check(libc.mount(encode(source), encode(target), encode(fstype), flags, encode(data)), f"mount {target}")


def bind(source, target, readonly=False):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            open(target, "w").close()
    mount(source, target, flags=MS_BIND | MS_REC)
    if readonly:
        mount(source, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def overlay(lower, target, extra=""):
    """Mount directories over each other, the first on top; read-only unless `extra` names an upper directory."""
    if len(lower) == 1 and not extra:
        bind(lower[0], target, readonly=True)
    else:
        mount("overlay", target, "overlay", data="lowerdir=" + ":".join(lower) + extra)


def prepare_root(spec):
    """Mount the tool root below a tmpfs that catches what is written, and everything the command may see."""
    top = spec["mountpoint"]
    mount("tmpfs", top, "tmpfs", data="mode=755")
    root = f"{top}/root"
    os.mkdir(root)
    written = spec["keep"] or top
    for directory in ("files", "work"):
        os.mkdir(f"{written}/{directory}")
    lower = [*spec["layers"], spec["root"]]
    overlay(lower, root, f",upperdir={written}/files,workdir={written}/work")
    bind("/dev", f"{root}/dev")
    bind("/sys", f"{root}/sys")
    mount("proc", f"{root}/proc", "proc")
    mount("tmpfs", f"{root}/tmp", "tmpfs", data="mode=1777")
    mount("tmpfs", f"{root}/run", "tmpfs", data="mode=755")
    for source, target, readonly in spec["binds"]:
        # A symlink of the tool root must not lead out of it, e.g. /etc/resolv.conf.
        inside = root + target
        if os.path.islink(inside):
            os.unlink(inside)
        bind(source, inside, readonly)
    if spec["export"]:
        os.makedirs(root + spec["export"])
        overlay(lower, root + spec["export"])
    os.chroot(root)


def reap_until(child):
    """Process 1 inherits orphans: reap them until `child` ends."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def exit_like(status):
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


def execute(argv, env):
    """As os.execvpe, which imports modules when it is called: they are out of reach after chroot."""
    error = f"{argv[0]}: command not found"
    directories = [""] if "/" in argv[0] else [directory + "/" for directory in env["PATH"].split(":")]
    for directory in directories:
        try:
            os.execve(directory + argv[0], argv, env)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as failure:
            error = f"{argv[0]}: {failure.strerror}"
    os.write(2, f"lab: {error}\n".encode())
    os._exit(127)


def run_command(spec):
    child = os.fork()
    if child == 0:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        die_with_parent(1)
        execute(spec["argv"], spec["env"])
    # Process 1 must not keep COMMAND's pipes open; the one named by the spec tells the lab that all is over.
    os.closerange(0, spec["alive_fd"])
    os.closerange(spec["alive_fd"] + 1, 65536)
    exit_like(reap_until(child))


def main():
    spec = json.loads(sys.argv[1])
    die_with_parent(spec["parent"])
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    me = os.getpid()
    init = os.fork()
    if init == 0:
        die_with_parent(me)
        try:
            mount("none", "/", flags=MS_REC | MS_PRIVATE)
            if spec["root"]:
                prepare_root(spec)
            else:
                mount("proc", "/proc", "proc")
            os.chdir(spec["cwd"])
        except OSError as error:
            print(f"lab: cannot enter the tool root: {error}", file=sys.stderr, flush=True)
            os._exit(125)
        run_command(spec)
    os.closerange(0, 65536)
    exit_like(os.waitpid(init, 0)[1])


if __name__ == "__main__":
    main()
