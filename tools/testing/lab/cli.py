# SPDX-License-Identifier: GPL-2.0
"""The command line: options, signals, errors and exit statuses."""

import argparse
import os
import re
import signal
import sys
from pathlib import Path

from . import bench, cache, faults, guest_memory, kernels, machine, modules, run, sandbox, suites, toolroot, vdevs, vm
from .errors import EXIT_LAB, EXIT_USAGE, Interrupted, LabError
from .paths import build_root

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv):
    """Run the lab's command line; the exit status."""
    options = _parser().parse_args(argv)
    for signum in ENDING_SIGNALS:
        signal.signal(signum, _on_signal)
    try:
        machine.become_root()
        cache.claim_builds()
        return options.function(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        if error.log:
            print(f"lab: log: {error.log}", file=sys.stderr)
        return error.status
    except OSError as error:
        # A full disk, a cache that cannot be written: the kernel's words and the file's name say it.
        print(f"lab: {error.filename or 'error'}: {error.strerror}", file=sys.stderr)
        return EXIT_LAB
    except Interrupted as interrupted:
        for signum in ENDING_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        sandbox.kill_all()
        print(f"lab: ended by {signal.Signals(interrupted.signum).name}", file=sys.stderr)
        return 128 + interrupted.signum


def _on_signal(signum, frame):
    raise Interrupted(signum)


def _parser():
    parser = argparse.ArgumentParser(prog="tools/lab", description="Run Linux with an emulated AMD Secure Processor.",
                                     allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "run", _run, "boot a VM and run a command inside")
    _vm_options(command)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND [ARG]...")
    command.set_defaults(interactive=False)

    command = _command(commands, "shell", _run, "the same with an interactive shell")
    _vm_options(command)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] [COMMAND [ARG]...]")
    command.set_defaults(interactive=True)

    command = _command(commands, "exec", _exec, "run a command in the tool root, without a VM")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND [ARG]...")

    command = _command(commands, "test", _test, "run the tests")
    command.add_argument("suites", nargs="*", metavar="SUITE", help="a file of tools/testing/tests (default: all)")

    command = _command(commands, "bench", _bench, "compare our driver with upstream's, and the guest helper with the kernel's bounce buffers")
    command.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(bench.TABLES)} (default: all)")
    command.add_argument("--rounds", type=_number(1, 100), metavar="N", help="how often to measure (default: 3; for dma 7)")
    command.add_argument("--full", action="store_true", help="dma: every way, size, depth and number of jobs (an hour more)")
    command.add_argument("--output", metavar="DIR", help="dma: where JSON, table and plots go (default: a directory of the cache)")

    _command(commands, "modules", _modules, "build the kernel modules and print where they are")
    _command(commands, "clean", _clean, "remove what was built from this checkout")
    _command(commands, "distclean", _distclean, "remove every cache of the project")
    _command(commands, "kdir", _kdir, "print the kernel build tree's path, for make -C inside `lab exec`")
    return parser


def _command(commands, name, function, text):
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    command.set_defaults(function=function)
    return command


def _vm_options(command):
    command.add_argument("--role", choices=("host", "guest", "plain"), default="host",
                         help="the processor's role: an EPYC host with a PSP, a SEV guest, or no SEV at all (default: host)")
    command.add_argument("--driver", choices=("rust", "upstream", "none"), default="rust",
                         help="whose drivers to load (default: rust)")
    command.add_argument("--kernel", choices=("debian", "kunit", "debug"), default="debian", help="which kernel (default: debian)")
    command.add_argument("--model", choices=tuple(vm.CPUS), default="milan", help="the EPYC generation (default: milan)")
    command.add_argument("--smp", type=_number(1, 64), default=2, metavar="N", help="virtual CPUs (default: 2)")
    command.add_argument("--mem", type=_number(256, 1 << 20), default=1024, metavar="MiB", help="memory (default: 1024)")
    command.add_argument("--share", type=_directory, metavar="DIR", help="a directory to be seen inside at /mnt/share")
    command.add_argument("--state", metavar="DIR", help="keep the PSP's state here (default: a new PSP for each run)")
    command.add_argument("--memory", choices=("aes", "plain"),
                         help="what SEV guests are launched from: encrypted in memory, or left readable (default: aes)")
    command.add_argument("--latency", choices=("none", "hardware", "slow"),
                         help="how long the emulated PSP's commands take (default: none)")
    command.add_argument("--transcripts", metavar="DIR", help="have the emulated PSP write here what guests were launched from")
    command.add_argument("--fault", action="append", default=[], metavar="SPEC", help="something that goes wrong; help lists what there is")
    command.add_argument("--psps", type=_number(1, 4), default=1, metavar="N", help="emulated PSPs (default: 1)")
    command.add_argument("--module-param", action="append", default=[], metavar="MODULE.NAME=VALUE",
                         help="a parameter for a driver that the lab loads")
    command.add_argument("--trace", metavar="FILE", help="write the emulated PSP's trace here")
    command.add_argument("--count-instructions", action="store_true",
                         help="count what the kernel executes, for programs that ask by CPUID (slower)")
    command.add_argument("--disk", action="append", default=[], metavar="SPEC",
                         help="a virtio disk: null:SIZE, ram:SIZE or file:PATH[,ro]; after commas queues=N, bus=blk|scsi, packed, no-access-platform")
    command.add_argument("--net", action="append", default=[], metavar="SPEC",
                         help="virtio network: pair (two interfaces connected to each other) or user; after commas no-mrg-rxbuf, packed, no-access-platform")
    command.add_argument("--virtio", action="append", default=[], metavar="SPEC",
                         help="another virtio device: rng, gpu, balloon or console; after a comma no-access-platform")
    command.add_argument("--hotplug", action="append", default=[], metavar="SPEC",
                         help="role guest: a disk like that of --disk, to be plugged in by way of /dev/lab-host")
    command.add_argument("--vdev", action="append", default=[], metavar="SPEC",
                         help="a virtio device of our own: blk or net, options after commas (vdev.rst); blk,hostile=help lists its lies")
    command.add_argument("--vdev-log", metavar="FILE", help="keep the log of what memory a --vdev was given")
    command.add_argument("--cpu-without", type=_cpu_flags, default=(), metavar="FLAGS",
                         help="the processor lacks these, e.g. erms,fsrm, with which emulation moves memory byte by byte")
    command.add_argument("--io-tools", action="store_true", help="have fio, iperf3, sockperf and ip at hand inside")
    command.add_argument("--append", action="append", default=[], metavar="WORDS", help="more words for the kernel's command line")
    command.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the VM when COMMAND has run for this time, with status 124")
    command.add_argument("--sev-status", type=_sev_status, metavar="N", help="role guest: what MSR SEV_STATUS says (default: 1)")
    command.add_argument("--seal", choices=("yes", "no"), help="role guest: seal its private memory")
    command.add_argument("--map", metavar="FILE.png", help="role guest: draw which of its pages are shared when COMMAND ends")
    command.add_argument("--expect-private", type=_hexadecimal, action="append", default=[], metavar="HEX",
                         help="role guest: fail when these bytes are in shared memory in the end, or not in private memory")
    command.add_argument("--vlek", action="store_true", help="role guest: its host has loaded a VLEK, which signs reports")
    command.add_argument("--nested", action="store_true", help="role host: let guests of its KVM execute")


def _number(low, high):
    def number(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value
    return number


def _sev_status(text):
    value = int(text, 0)
    # SEV and not SEV-ES nor SEV-SNP, bits 0 to 2: those make a kernel call its hypervisor by GHCB.
    if not 0 <= value < 1 << 64 or value & 7 != 1:
        raise argparse.ArgumentTypeError(f"{text}: the lab's guest is a SEV guest, and no SEV-ES or SEV-SNP guest")
    return value


def _cpu_flags(text):
    flags = text.split(",")
    if not all(re.fullmatch(r"[a-z][a-z0-9_.-]*", flag) for flag in flags):
        raise argparse.ArgumentTypeError(f"{text} is not a list of processor flags")
    return flags


def _hexadecimal(text):
    if len(bytes.fromhex(text)) < guest_memory.SHORTEST:
        raise argparse.ArgumentTypeError(f"{text} is shorter than {guest_memory.SHORTEST} bytes")
    return text


def _seconds(text):
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a useful number of seconds")
    return value


def _directory(text):
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return os.path.realpath(text)


def _given_command(options, default=None):
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command and not default:
        raise LabError("no COMMAND given; see --help", status=EXIT_USAGE)
    return command or default


def _run(options):
    if "help" in options.fault:
        return faults.print_help()
    if any("help" in spec.split(",") or "hostile=help" in spec.split(",") for spec in options.vdev):
        return vdevs.print_help()
    options.command = _given_command(options, ["bash"] if options.interactive else None)
    _check_role(options)
    return run.run(options)


def _check_role(options):
    """Refuse what the role has no use for, or cannot have."""
    guest = options.role == "guest"
    if options.nested:
        raise LabError("--nested is not supported yet", status=EXIT_USAGE)
    guests = {"--seal": options.seal, "--map": options.map, "--expect-private": options.expect_private,
              "--sev-status": options.sev_status, "--vlek": options.vlek}
    for option, given in guests.items():
        if given and not guest:
            raise LabError(f"{option} needs --role guest", status=EXIT_USAGE)
    if guest and options.model not in run.SNP_MODELS:
        for option, given in {"--vlek": options.vlek, "--fault": options.fault}.items():
            if given:
                raise LabError(f"{option} needs a guest that can ask the firmware: {options.model} has no SNP", status=EXIT_USAGE)
    if guest and options.mem > guest_memory.MOST_MIB:
        raise LabError(f"--role guest has at most {guest_memory.MOST_MIB} MiB of memory", status=EXIT_USAGE)


def _exec(options):
    command = _given_command(options)
    # Ctrl-C is the command's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return sandbox.run(toolroot.get(), command)


def _kdir(options):
    root = toolroot.get()
    print(kernels.get(root, "debian").build())
    return 0


def _modules(options):
    root = toolroot.get()
    kernel = kernels.get(root, "debian")
    for module in sorted((modules.layer(root, kernel) / "usr/lib/modules" / kernel.release / "updates").iterdir()):
        print(module)
    return 0


def _test(options):
    return suites.run(toolroot.get(), options.suites)


def _bench(options):
    unknown = set(options.tables) - set(bench.TABLES)
    if unknown:
        raise LabError(f"no table {', '.join(sorted(unknown))}; there are {', '.join(bench.TABLES)}", status=EXIT_USAGE)
    directory = Path(options.output).absolute() if options.output else build_root() / "bench"
    return bench.run(toolroot.get(), options.tables or bench.TABLES, options.rounds, options.full, directory)


def _clean(options):
    cache.remove(build_root())
    return 0


def _distclean(options):
    cache.remove_all()
    return 0
