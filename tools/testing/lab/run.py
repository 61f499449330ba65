# SPDX-License-Identifier: GPL-2.0
"""`lab run` and `lab shell`: everything a VM needs is made or taken from the cache, then session.py runs it."""

import contextlib
import dataclasses
import json
import os
import stat
import sys
import termios
import tty
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import devices, faults, guest_memory, initramfs, kernels, modules, programs, progress, sandbox, toolroot, vdevs
from .errors import EXIT_USAGE, LabError
from .paths import CHECKOUT

# The sandbox's own directory for sockets, state and logs, on its tmpfs.
RUN = "/run/lab"
# How often each CPU has executed WBINVD: written by the plugin, read by the PSP.
WBINVD = f"{RUN}/wbinvd"
# A guest's secrets page: the file, and where it is in the guest's memory. There is neither kernel nor initrd there, and
# all guests have that much memory.
SECRETS = f"{RUN}/secrets"
SECRETS_ADDRESS = 0x7fff000
# The models whose guests can ask the PSP.
SNP_MODELS = ("milan", "genoa", "turin")
# The directory for pictures of a guest's memory.
MAP = f"{RUN}/map"

# Drivers to load in each role: with ours, and without. The distribution has none for a guest.
DRIVERS = {
    "host": {"rust": ("ccp", "kvm-amd"), "upstream": ("ccp", "kvm-amd")},
    "guest": {"rust": ("virtio_sev_shim",)},
    "plain": {},
}

# What is needed of what the lab builds, besides kernel and modules.
PROGRAMS = {
    "host": {"psp-emu": programs.psp_emu, "sev-cpu": programs.sev_cpu, "sevctl": programs.sevctl, "sev-launch": programs.sev_launch},
    "guest": {"psp-emu": programs.psp_emu, "sev-cpu": programs.sev_cpu, "snpguest": programs.snpguest},
    "plain": {},
}

# The guest's private memory has a virtio device that a driver could take for a disk.
GUEST_APPEND = ("module_blacklist=virtio_pmem",)


def run(options):
    """Run a VM as the command line says; the exit status."""
    terminal = _terminal() if options.interactive else None
    stdin = not terminal and _stdin_has_content()
    own = DRIVERS[options.role].get(options.driver, ())
    attached = devices.described(options, RUN)
    own_devices, more_drivers = vdevs.described(options, RUN, 1 << guest_memory.C_BIT)
    more_drivers = [name for name in more_drivers if name not in attached.drivers]
    drivers = _with_parameters((*own, *attached.drivers, *more_drivers), options.module_param)
    nv, psp_faults = faults.split(options.fault, options.psps)
    host = options.role == "host"
    pictures = _pictures(options.map) if options.map else None

    root = toolroot.get()
    wanted = dict(PROGRAMS[options.role])
    if options.count_instructions:
        wanted["sev-cpu"] = programs.sev_cpu
    if pictures:
        wanted["sev-map"] = programs.sev_map
    if own_devices:
        wanted["vdev"] = programs.vdev
        if options.role == "guest":
            wanted["sev-map"] = programs.sev_map
    if options.io_tools:
        wanted["io-tools"] = toolroot.io_tools
    made = prepare(root, options.kernel, wanted, modules_too=bool(own) and options.driver == "rust")
    kernel = made["kernel"]
    spec = {
        "role": options.role, "model": options.model, "smp": options.smp, "mem": options.mem, "cpu_without": options.cpu_without,
        "devices": dataclasses.asdict(attached), "vdevs": own_devices, "vdev": str(made["vdev"]) if own_devices else None,
        "sev_map": str(made["sev-map"]) if "sev-map" in made else None,
        "append": [*(GUEST_APPEND if options.role == "guest" else ()), *options.append], "secrets": None,
        "timeout": options.timeout, "terminal": terminal is not None, "stdin": stdin,
        "kernel": kernel.image, "root": f"{RUN}/root", "share": f"{RUN}/share" if options.share else None,
        "logs": RUN, "kept_logs": str(progress.new_log("vm").with_suffix("")),
        "psps": [], "wbinvd": WBINVD, "count_instructions": options.count_instructions,
        "plugin": str(made["sev-cpu"]) if "sev-cpu" in made else None, "memory": guest_memory.describe(RUN),
        "map": pictures and {"program": str(made["sev-map"]), "directory": MAP, "name": pictures.name},
        "sev_status": options.sev_status, "expect_private": options.expect_private, "seal": options.role == "guest" and options.seal != "no",
    }
    binds = list(attached.binds)
    if options.share:
        binds.append((options.share, spec["share"], False))
    if options.vdev_log:
        for number, vdev in enumerate(own_devices, start=1):
            file = options.vdev_log + (f".{number}" if number > 1 else "")
            binds.append((_emptied("--vdev-log", file), vdev["log"], False))
    if pictures:
        binds.append((pictures.parent, MAP, False))
    if host:
        emulators = [_psp(options, number, own_faults) for number, own_faults in enumerate(psp_faults, start=1)]
    elif options.role == "guest" and options.model in SNP_MODELS:
        emulators = [_guest_device(options, psp_faults[0])]
        spec["secrets"] = {"file": SECRETS, "address": SECRETS_ADDRESS}
        spec["append"].append(f"memmap=4K${SECRETS_ADDRESS:#x}")
    else:
        emulators = []
    for arguments, seen in emulators:
        spec["emulator"] = str(made["psp-emu"])
        spec["psps"].append(arguments)
        binds += [(path, path, False) for path in seen]
    layers = [made[name] for name in ("modules", "sevctl", "snpguest", "sev-launch", "io-tools") if name in made] + list(kernel.layers)
    image = initramfs.build(root, kernel.modules_dir, drivers, options.command, stdin, terminal, options.share, nv)
    with _in_memory(image) as initrd, _raw(terminal):
        spec["initrd"] = f"/proc/self/fd/{initrd}"
        spec["pass_fds"] = [initrd]
        return sandbox.run(root, ["/usr/bin/python3", "-B", "-m", "lab.session", json.dumps(spec)],
                           env={"PYTHONPATH": str(CHECKOUT / "tools/testing")}, layers=layers, export=spec["root"],
                           binds=binds, pass_fds=(initrd,))


def prepare(root, kernel_name, wanted, modules_too):
    """Build what is missing, two things at a time; a dict of what was asked for. `wanted` is like those in PROGRAMS."""
    made = {}

    def kernel_side():
        made["kernel"] = kernels.get(root, kernel_name)
        if modules_too:
            made["modules"] = modules.layer(root, made["kernel"])

    def user_side():
        for name, program in wanted.items():
            made[name] = program(root)

    pool = ThreadPoolExecutor()
    try:
        futures = [pool.submit(side) for side in (kernel_side, user_side)]
        for future in as_completed(futures):
            future.result()
    except BaseException:
        sandbox.kill_all()
        raise
    finally:
        pool.shutdown()
    return made


@contextlib.contextmanager
def _in_memory(contents):
    """A file descriptor for a file without a name, so that nothing can stay behind."""
    fd = os.memfd_create("lab")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(contents)
        yield fd
    finally:
        os.close(fd)


def _stdin_has_content():
    """Is standard input a pipe or file? A terminal stays with whoever started the lab."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _terminal():
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise LabError("lab shell needs a terminal; use lab run for scripts", status=EXIT_USAGE)
    columns, rows = os.get_terminal_size(0)
    return os.environ.get("TERM", "linux"), rows, columns


@contextlib.contextmanager
def _raw(terminal):
    """The terminal passes every key on, Ctrl-C too, until the VM ends."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    print("lab: Ctrl-] ends the VM", file=sys.stderr, flush=True)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _psp(options, number, own_faults):
    """One emulated PSP: its arguments, and paths it must see, under their own names because its messages have those."""
    # What the command line names is the first one's.
    suffix = f".{number}" if number > 1 else ""
    psp, seen = _emulator(options, suffix, own_faults)
    arguments = psp["arguments"]
    arguments += ["--wbinvd", WBINVD]
    for option, value in (("--memory", options.memory), ("--latency", options.latency)):
        if value:
            arguments += [option, value]
    if options.transcripts:
        seen.append(_made("--transcripts", options.transcripts.rstrip("/") + suffix))
        arguments += ["--transcripts", seen[-1]]
    return psp, seen


def _guest_device(options, own_faults):
    """The device by which a guest asks a PSP, as `_psp`."""
    device, seen = _emulator(options, "", own_faults)
    device["arguments"] += ["--guest", "--secrets", SECRETS, "--secrets-address", f"{SECRETS_ADDRESS:#x}"]
    device["arguments"] += ["--vlek"] if options.vlek else []
    return device, seen


def _emulator(options, suffix, own_faults):
    """What all emulators have in common."""
    seen = []
    state = f"{RUN}/state{suffix}"
    if options.state:
        state = _made("--state", options.state.rstrip("/") + suffix)
        seen.append(state)
    arguments = ["--socket", f"{RUN}/psp.sock{suffix}", "--state", state, "--model", options.model]
    if options.trace:
        seen.append(_emptied("--trace", options.trace + suffix))
        arguments += ["--trace", seen[-1]]
    for fault in own_faults:
        arguments += ["--fault", fault]
    return {"socket": f"{RUN}/psp.sock{suffix}", "arguments": arguments}, seen


def _with_parameters(drivers, parameters):
    """Arguments for modprobe: each driver with its parameters."""
    arguments = {driver.replace("-", "_"): [driver] for driver in drivers}
    for parameter in parameters:
        module, dot, assignment = parameter.partition(".")
        name, equals, _ = assignment.partition("=")
        if not (dot and name and equals) or any(character.isspace() for character in parameter):
            raise LabError(f"--module-param {parameter}: not of the form MODULE.NAME=VALUE, without blanks", status=EXIT_USAGE)
        if module.replace("-", "_") not in arguments:
            raise LabError(f"--module-param {parameter}: the lab loads {', '.join(drivers) or 'no driver'}; "
                           "--append reaches all modules", status=EXIT_USAGE)
        arguments[module.replace("-", "_")].append(assignment)
    return [" ".join(words) for words in arguments.values()]


def _made(option, directory):
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{option} {directory}: {error.strerror}") from error
    return os.path.realpath(directory)


def _pictures(file):
    """The path of `--map`, where a file can be written."""
    if not file.endswith(".png"):
        raise LabError(f"--map {file}: it will be a PNG file, its name must end so", status=EXIT_USAGE)
    return Path(_emptied("--map", file))


def _emptied(option, file):
    try:
        open(file, "w").close()
    except OSError as error:
        raise LabError(f"{option} {file}: {error.strerror}") from error
    return os.path.realpath(file)
