# SPDX-License-Identifier: GPL-2.0
"""One VM from boot to COMMAND's end. Runs inside the sandbox: `python3 -m lab.session SPEC` (JSON, see run.py).

Starts the emulated PSP and QEMU, passes COMMAND's output on, watches for panics, dead processes and time, and exits
with COMMAND's status. When it exits, the namespace takes everything else along.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

from . import vdevs, vm
from .errors import EXIT_LAB, EXIT_TIMEOUT, LabError
from .guest_memory import GuestMemory
from .host_view import HostView
from .page_map import PageMap
from .qmp import Gone, Qmp
from .streams import Console, Control, Pipe, Stream, to_descriptor

# TIMEOUT: a debug kernel with KASAN needs more than a minute on a slow machine.
BOOT_SECONDS = 300
# TIMEOUT: a booting kernel prints several lines a second. With more load than processors, QEMU's TCG sometimes loses
# one of its CPUs while the second is brought up; nothing of ours has run by then, so the VM is simply started again.
SILENT_SECONDS = 20
BOOT_ATTEMPTS = 3
# TIMEOUT: what a panicking kernel still has to say.
LAST_WORDS_SECONDS = 3
# TIMEOUT: the emulator makes keys for a new state directory before it listens.
EMULATOR_SECONDS = 60
# Ctrl-] ends the VM of `lab shell`: Ctrl-C goes to the guest.
ESCAPE = b"\x1d"


# Time stamp, level and module of the emulator's log lines.
LOG_PREFIX = re.compile(r"^(\S+Z +ERROR \S+: |error: )")


class HungBoot(Exception):
    """The kernel fell silent before it had started anything of ours."""


class Session:
    """The VM described by `spec`, with its processes and streams."""

    def __init__(self, spec):
        self.spec = spec
        self.logs = Path(spec["logs"])
        self.processes = {}
        self.let_go = self.begun = False
        self.warned = False

    def run(self):
        """Run the VM to COMMAND's end; COMMAND's status."""
        for path, size in self.spec["devices"]["files"]:
            Path(path).touch()
            os.truncate(path, size)
        if self.spec["psps"]:
            Path(self.spec["wbinvd"]).touch()
        for number, psp in enumerate(self.spec["psps"], start=1):
            name = f"psp-emu.{number}" if number > 1 else "psp-emu"
            self._start_server(name, "the emulated PSP", [self.spec["emulator"], *psp["arguments"]], psp["socket"])
        for vdev in self.spec["vdevs"]:
            self._start_server(vdev["name"], f"the virtio device {vdev['name']}", [self.spec["vdev"], *vdev["arguments"]], vdev["socket"])
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            self._start_qemu()
            try:
                return self._follow()
            except Gone:
                self._report_death("qemu")
            except HungBoot:
                self.processes["qemu"].kill()
                self.processes["qemu"].wait()
                again = "starting it again" if attempt < BOOT_ATTEMPTS else "giving up"
                self._warn(f"the guest kernel hung while booting; {again}")
        raise LabError(f"the guest kernel hung while booting, {BOOT_ATTEMPTS} times")

    def _follow(self):
        selector = selectors.DefaultSelector()
        for stream in self.streams.values():
            selector.register(stream.end, selectors.EVENT_READ, stream)
        for name, process in self.processes.items():
            selector.register(os.pidfd_open(process.pid), selectors.EVENT_READ, name)
        started = time.monotonic()
        while True:
            events = [key.data for key, _ in selector.select(timeout=1)]
            self._pump()
            if self.control.status is not None:
                # The guest reports its status after everything else: all output has arrived.
                self._pump()
                self._look_at_memory()
                return self.control.status
            self._check_guest()
            for event in events:
                if event in self.processes:
                    self._report_death(event)
                elif event.ended:
                    selector.unregister(event.end)
            if self.control.booted:
                self._let_go()
            if self.control.ready:
                self._command_has_begun()
            elif time.monotonic() > started + BOOT_SECONDS:
                raise LabError(f"the guest did not boot within {BOOT_SECONDS} s")
            elif not self.console.init_started and time.monotonic() > self.console.last + SILENT_SECONDS:
                raise HungBoot

    def _pump(self):
        for stream in self.streams.values():
            stream.pump()

    def _check_guest(self):
        if self.console.panic:
            # It reboots after a panic, which ends QEMU; the trace comes before that.
            self._wait(self.processes["qemu"], LAST_WORDS_SECONDS)
            raise LabError(f"the guest kernel panicked: {self.console.panic}")
        if self.console.guest_error:
            raise LabError(f"the guest could not be set up: {self.console.guest_error}")

    def _wait(self, process, seconds):
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
            self._pump()
        self._pump()

    def _report_death(self, name):
        # QEMU's last bytes may have come after the look at the streams.
        self._pump()
        self._check_guest()
        status = self.processes[name].wait()
        raise LabError(f"{name} ended with status {status} while the guest was running: {self._last_words(name)}")

    def _start_server(self, name, title, command, path):
        process = self._start(name, command)
        end = time.monotonic() + EMULATOR_SECONDS
        while not os.path.exists(path):
            if process.poll() is not None:
                raise LabError(f"{title} did not start: {self._last_words(name)}")
            if time.monotonic() > end:
                raise LabError(f"{title} did not open its socket within {EMULATOR_SECONDS} s")
            time.sleep(0.005)

    def _start_qemu(self):
        self.console = Console(self.logs / "console.log")
        self.control = Control(self._warn)
        self.streams = {"console": Pipe(self.console.feed), "control": Stream(self.control.feed)}
        if self.spec["terminal"]:
            self.streams["terminal"] = Stream(to_descriptor(1))
        else:
            self.streams["stdout"] = Stream(to_descriptor(1))
            self.streams["stderr"] = Stream(to_descriptor(2))
        ends = {}
        if self.spec["devices"]["loop"]:
            ends["loop0"], ends["loop1"] = socket.socketpair()
        if self.spec["role"] == "guest":
            self.memory = GuestMemory(self.spec["memory"], self.spec["mem"])
            self.qmp = Qmp()
            ends |= {"qmp": self.qmp.qemus_end, "orders": self.memory.plugins_end}
            self.map = PageMap(self.spec["memory"], **self.spec["map"]) if self.spec["map"] else None
            view = HostView(self.memory, self.qmp, lambda answer: self._tell("host", answer), self._take_map,
                            self.spec["devices"]["hotplug"], self._compare_pages)
            self.streams["host"] = Stream(view.feed)
        ends |= {name: stream.qemus_end for name, stream in self.streams.items()}
        self.input = None
        if self.spec["terminal"]:
            self.input = self.streams["terminal"].end
        elif self.spec["stdin"]:
            self.input, ends["stdin"] = socket.socketpair()
            self.input.setblocking(False)
        fds = {name: end.fileno() for name, end in ends.items()}
        self._start("qemu", vm.command_line(self.spec, fds), pass_fds=(*fds.values(), *self.spec["pass_fds"]))
        for end in ends.values():
            end.close()

    def _start(self, name, command, **options):
        with open(self.logs / f"{name}.log", "wb") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        return self.processes[name]

    def _let_go(self):
        if not self.let_go:
            self.let_go = True
            if self.spec["seal"]:
                self.memory.seal(self.qmp)
            for vdev in self.spec["vdevs"]:
                # What came before was the firmware's, which may have used the disk.
                vdev["begin"] = os.path.getsize(vdev["log"])
            self._tell("control", b"go\n")

    def _tell(self, stream, words):
        try:
            _send(self.streams[stream].end, words)
        except ConnectionError as error:
            raise Gone from error

    def _look_at_memory(self):
        signal.setitimer(signal.ITIMER_REAL, 0)  # COMMAND has ended in time
        if self.spec["map"]:
            self._take_map(last=True)
        self._check_private()

    def _take_map(self, last=False):
        """A picture for `--map`; what is said about it is the lab's output, not COMMAND's."""
        if not self.map:
            raise LabError("there is no --map")
        name, summary = self.map.take(self.qmp, last)
        print(f"lab: {name}:\n{summary}", end="", file=sys.stderr, flush=True)
        return name

    def _compare_pages(self, number):
        if not 1 <= number <= len(self.spec["vdevs"]):
            raise LabError(f"there is no --vdev number {number}")
        return vdevs.compared(self.spec["vdevs"][number - 1], self.spec["sev_map"], self.spec["memory"], self.qmp)

    def _check_private(self):
        """What `--expect-private` names must have stayed private, and the keys of a sealed guest always."""
        patterns = [bytes.fromhex(text) for text in self.spec["expect_private"]]
        keys = self._vmpcks() if patterns or self.spec["seal"] else []
        if not patterns and not keys:
            return
        with self.qmp.stopped():
            in_shared, in_private = self.memory.find(patterns) if patterns else (0, 0)
            keys_in_shared = sum(self.memory.find([key])[0] for key in keys)
        if in_shared:
            raise LabError(f"--expect-private: {in_shared} of {len(patterns)} are in shared memory")
        if keys_in_shared:
            raise LabError(f"{keys_in_shared} of the guest's VMPCKs are in shared memory")
        if in_private < len(patterns) and self.control.status == 0:
            raise LabError(f"--expect-private: only {in_private} of {len(patterns)} are in private memory; nothing is known of the others")

    def _vmpcks(self):
        """The keys in the secrets page as it was at first: four of 32 bytes."""
        if not self.spec["secrets"]:
            return []
        page = Path(self.spec["secrets"]["file"]).read_bytes()
        return [page[at:at + 32] for at in range(0x20, 0xA0, 32)]

    def _command_has_begun(self):
        if not self.begun:
            self.begun = True
            signal.setitimer(signal.ITIMER_REAL, self.spec["timeout"] or 0)
            if self.input:
                self._forward_input(self.input)

    def _forward_input(self, end):
        """In a process of its own: reading may block, and must not hold up anything else."""
        lab = os.getpid()
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                data = os.read(0, 65536)
                while data and not (self.spec["terminal"] and ESCAPE in data):
                    _send(end, data)
                    data = os.read(0, 65536)
                # QEMU drops what it has not read when the other end closes.
                while not self.spec["terminal"] and _unread_bytes(end):
                    time.sleep(0.01)
            if self.spec["terminal"]:  # the escape key, or nobody is there any more
                os.kill(lab, signal.SIGTERM)
            os._exit(0)
        if not self.spec["terminal"]:
            end.close()

    def _warn(self, text):
        self.warned = True
        print(f"lab: warning: {text}", file=sys.stderr, flush=True)

    def _last_words(self, name):
        """What a process that failed had to say: its first error, or its last line."""
        lines = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()[1:]
        errors = [line for line in lines if "error" in line.lower()]
        line = (errors or lines[-1:] or ["no message"])[0]
        return LOG_PREFIX.sub("", line)


def _send(end, data):
    # Making the socket blocking would make it so for the parent's reads, too.
    while data:
        select.select([], [end], [])
        # Writable does not mean that all of it fits.
        with contextlib.suppress(BlockingIOError):
            data = data[end.send(data):]


def _unread_bytes(end):
    return int.from_bytes(fcntl.ioctl(end, termios.TIOCOUTQ, bytes(4)), "little")


def save_logs(spec):
    """Copy the logs to where they outlive the sandbox, and name them."""
    kept = Path(spec["kept_logs"])
    for log in sorted(Path(spec["logs"]).glob("*.log")):
        copy = kept.with_name(f"{kept.name}-{log.name}")
        if Path(spec["logs"]) != kept:
            shutil.copyfile(log, copy)
        print(f"lab: {log.stem} log: {copy}", file=sys.stderr, flush=True)


class TimedOut(Exception):
    """`--timeout` has passed."""


def on_alarm(signum, frame):
    raise TimedOut


def main():
    spec = json.loads(sys.argv[1])
    session = Session(spec)
    try:
        signal.signal(signal.SIGALRM, on_alarm)
        status = session.run()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if session.warned:
            save_logs(spec)
    except TimedOut:
        print(f"lab: timed out after {spec['timeout']:g} s", file=sys.stderr, flush=True)
        if hang := session.console.hang():
            print(f"lab: the guest kernel said: {hang}", file=sys.stderr, flush=True)
        status = EXIT_TIMEOUT
        save_logs(spec)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr, flush=True)
        status = EXIT_LAB
        save_logs(spec)
    except BrokenPipeError:
        # Who reads the output has gone; end as a program would that gets SIGPIPE.
        status = 128 + signal.SIGPIPE
    # Not sys.exit: nothing is left to clean up, and standard output may be closed.
    os._exit(status)


if __name__ == "__main__":
    main()
