# SPDX-License-Identifier: GPL-2.0
"""Commands in the tool root. Whatever they start dies with the lab; see nsinit.py for how."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .errors import LabError
from .paths import CHECKOUT, LAB, cache_root

# What commands in the tool root may know of the user's environment.
PASSED_ON = ("TERM", "LANG", "COLORTERM", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
             "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_LOG", "RUST_BACKTRACE", "V", "W", "KDIR")

# Files of the machine that network access from the tool root needs.
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")


# Every running sandbox, so that a signal can end them all, whichever thread started them.
_running = set()
_ending = False


class Sandbox:
    """One command in namespaces of its own, started at once.

    `root` is the tool root, or None for the machine's own files. `layers` are directories laid over it, the first
    on top; `export` is a path at which the tool root with its layers appears once more, read-only and bare.
    What the command writes to the tool root is gone when it ends, or is kept in `files` of the directory `keep`.
    `binds` are (source, target, readonly); the checkout and the cache are always visible at their own paths.
    Descriptors in `pass_fds` reach the command under the same numbers.
    """

    def __init__(self, root, argv, cwd=None, env=None, layers=(), export=None, keep=None, binds=(),
                 pass_fds=(), **popen):
        if _ending:
            raise LabError("the lab is ending")
        mountpoint = cache_root() / "mnt"
        mountpoint.mkdir(parents=True, exist_ok=True)
        self._alive, alive_fd = os.pipe()
        spec = {
            "parent": os.getpid(),
            "root": str(root) if root else None,
            "layers": [str(layer) for layer in layers],
            "export": export,
            "keep": str(keep) if keep else None,
            "mountpoint": str(mountpoint),
            "binds": [*_own_binds(), *((str(s), str(t), r) for s, t, r in binds)],
            "cwd": str(cwd or CHECKOUT),
            "env": {**(_environment() if root else os.environ), **(env or {})},
            "argv": [str(arg) for arg in argv],
            "alive_fd": alive_fd,
        }
        command = [sys.executable, "-S", "-E", str(LAB / "nsinit.py"), json.dumps(spec)]
        try:
            self.process = subprocess.Popen(command, pass_fds=(alive_fd, *pass_fds), **popen)
        finally:
            os.close(alive_fd)
        _running.add(self)

    def wait(self):
        """Wait for the command; its exit status, 128 + n when signal n ended it."""
        status = self.process.wait()
        self._wait_until_gone()
        return 128 - status if status < 0 else status

    def kill(self):
        """Kill the command and everything it started, and wait until they are gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._wait_until_gone()

    def _wait_until_gone(self):
        # Only process 1 of the namespace holds the other end, and it is the last to go.
        if self in _running:
            os.read(self._alive, 1)
            os.close(self._alive)
            _running.discard(self)


def kill_all():
    """Kill every sandbox of this process, and let no more be started."""
    global _ending
    _ending = True
    for sandbox in list(_running):
        sandbox.process.send_signal(signal.SIGKILL)


def run(root, argv, **options):
    """Run a command in the tool root to its end; its exit status."""
    sandbox = Sandbox(root, argv, **options)
    try:
        return sandbox.wait()
    except BaseException:
        sandbox.kill()
        raise


def output(root, argv, **options):
    """What a command in the tool root prints, stripped. Raises LabError when it fails."""
    sandbox = Sandbox(root, argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options)
    try:
        text = sandbox.process.stdout.read()
        status = sandbox.wait()
    except BaseException:
        sandbox.kill()
        raise
    if status:
        raise LabError(f"{' '.join(map(str, argv))} failed with status {status}")
    return text.strip()


def _own_binds():
    cache_root().mkdir(parents=True, exist_ok=True)
    network = [(os.path.realpath(path), path, True) for path in NETWORK if os.path.exists(path)]
    own = [(str(cache_root()), str(cache_root()), False), (str(CHECKOUT), str(CHECKOUT), False)]
    kdir = os.environ.get("KDIR")
    if kdir and Path(kdir).is_dir():
        own.append((os.path.realpath(kdir), os.path.realpath(kdir), False))
    return network + own


def _environment():
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("CARGO_")}
    passed.pop("CARGO_HOME", None)
    return {"TERM": "dumb", **passed, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root", "LC_ALL": "C.UTF-8"}
