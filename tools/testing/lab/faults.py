# SPDX-License-Identifier: GPL-2.0
"""`--fault`: which faults are the lab's own, and which of the rest go to which emulated PSP."""

from . import programs, sandbox, toolroot
from .errors import EXIT_USAGE, LabError

# Where a driver can be told to keep the PSP's persistent data; always there, and writable but for these faults.
NV_DIRECTORY = "/var/lib/sev-nv"

# The lab's own: what the directory is like, and what that means.
NV_FAULTS = {
    "nv-full": ("full", f"no room is left in {NV_DIRECTORY}"),
    "nv-read-only": ("read-only", f"{NV_DIRECTORY} is mounted read-only"),
}


def split(specs, psps):
    """What NV_DIRECTORY is to be like, or None, and a list of faults for each of so many PSPs.

    A fault is the first PSP's, another's after its number and a slash: `2/late:50`.
    """
    nv, faults = None, [[] for _ in range(psps)]
    for spec in specs:
        number, slash, fault = spec.partition("/")
        if not slash:
            number, fault = "1", spec
        if not number.isdecimal() or not 1 <= int(number) <= psps:
            raise LabError(f"--fault {spec}: there is no PSP number {number}; see --psps", status=EXIT_USAGE)
        if fault in NV_FAULTS and not slash:
            nv = NV_FAULTS[fault][0]
        else:
            faults[int(number) - 1].append(fault)
    return nv, faults


def print_help():
    """Print the table of all faults, the emulated PSP's and the lab's."""
    root = toolroot.get()
    print(sandbox.output(root, [programs.psp_emu(root), "--fault", "help"]))
    print("\nFaults of the VM, for a driver that keeps the PSP's data in a file "
          f"(--module-param ccp.init_ex_path={NV_DIRECTORY}/nv):\n")
    for name, (_, effect) in NV_FAULTS.items():
        print(f"{name}\n    {effect}\n    for example {name}")
    return 0
