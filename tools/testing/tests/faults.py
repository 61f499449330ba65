# SPDX-License-Identifier: GPL-2.0
"""Faults of the VM and of single PSPs: that `--fault` and its companions do what they say, and how drivers take it."""

import json
import re

from lab.clients import sev_bench, sev_ioctl
from lab.faults import NV_DIRECTORY, NV_FAULTS
from lab.paths import CHECKOUT
from lab.suites import Failure, contains, equal, watched

KERNELS = ("kunit",)
QUICK = ("run", "--kernel", "kunit", "--smp", "1")
NV_FILE = f"{NV_DIRECTORY}/nv"
NV = ("--module-param", f"ccp.init_ex_path={NV_FILE}")
# One second is enough for an emulator.
IMPATIENT = ("--module-param", "ccp.psp_cmd_timeout=1")


def inside(context, script, *options):
    """What a script prints in a VM in which the kernel has nothing to complain about."""
    result = context.lab(*QUICK, *options, "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode()


def commands(trace):
    """Names of the commands a PSP was given."""
    lines = map(json.loads, trace.read_text().splitlines())
    return [line["name"] for line in lines if line["event"] == "command"]


def test_drivers_keep_the_psps_data_in_a_file(context):
    for driver in ("upstream", "rust"):
        trace = context.directory / f"{driver}.trace"
        output = inside(context, f"stat -c %s {NV_FILE}; dmesg | grep -o 'kvm_amd: SEV enabled'",
                        "--driver", driver, "--trace", trace, *NV)
        equal(output, "32768\nkvm_amd: SEV enabled\n", f"bytes in the file, and KVM's state, with {driver}")
        contains(commands(trace), "INIT_EX", f"commands of {driver}")


def test_the_file_can_be_prepared_outside(context):
    share = context.directory / "share"
    share.mkdir()
    (share / "nv").write_bytes(bytes(100))
    output = inside(context, "dmesg | grep -o 'non volatile memory area, ret 100'", "--driver", "upstream", "--share", share,
                    "--module-param", "ccp.init_ex_path=/mnt/share/nv")
    contains(output, "ret 100", "upstream's message about a short file")
    equal((share / "nv").stat().st_size, 32768, "bytes it has written")


def test_a_directory_that_is_full_or_read_only(context):
    for fault, error, errno in (("nv-full", "I/O error", -28), ("nv-read-only", "Read-only file system", -30)):
        script = f"(echo x >{NV_DIRECTORY}/x) 2>&1; cat {NV_DIRECTORY}/x 2>/dev/null; dmesg | grep 'SEV: .*{errno}$'"
        output = inside(context, script, "--driver", "upstream", "--fault", fault, *NV)
        contains(output, error, f"a program that writes with {fault}")
        contains(output, str(errno), f"the driver that writes with {fault}")
        if "\nx\n" in output:
            raise Failure(f"with {fault} a file has contents")


def test_our_driver_writes_the_file_when_it_can_again(context):
    share = sev_ioctl(context)
    for fault, cure in (("nv-full", f"rm {NV_DIRECTORY}/filler; mount -o remount,size=1m {NV_DIRECTORY}"),
                        ("nv-read-only", f"mount -o remount,rw {NV_DIRECTORY}")):
        script = f"""
            dmesg | grep -o 'kvm_amd: SEV enabled'; {cure}
            /mnt/share/sev-ioctl pdh_gen | cut -d' ' -f1-4; stat -c %s {NV_FILE}"""
        output = inside(context, script, "--share", share, "--fault", fault, *NV)
        equal(output, "kvm_amd: SEV enabled\npdh_gen rw OK error=0\n32768\n", f"KVM, a command, bytes in the file after {fault}")


def test_parameters_go_to_the_module_they_name(context):
    script = "cat /sys/module/ccp/parameters/psp_cmd_timeout /sys/module/kvm_amd/parameters/avic"
    output = inside(context, script, "--module-param", "ccp.psp_cmd_timeout=7", "--module-param", "kvm-amd.avic=0",
                    "--module-param", "ccp.psp_probe_timeout=3")
    equal(output, "7\nN\n", "parameters")


def test_help_lists_every_fault_without_a_vm(context):
    result = context.lab("run", "--fault", "help")
    equal(result.returncode, 0, "status")
    printed = result.stdout.decode()
    documentation = (CHECKOUT / "Documentation/psp-emu.rst").read_text()
    sections = (documentation.split(f"\n{first}\n==")[1].split(f"\n{after}\n==")[0]
                for first, after in (("Faults", "Latency"), ("The guest device", "Using the library")))
    psps, guests = (re.findall(r"^``([a-z-]+)[^`]*``  ", section, re.MULTILINE) for section in sections)
    known = re.findall(r"^    for example ([a-z-]+)", printed, re.MULTILINE)
    equal(known, [*psps, *guests, *NV_FAULTS], "faults printed, and those documented")
    lab = (CHECKOUT / "Documentation/lab.rst").read_text()
    equal(set(re.findall(r"``(nv-[a-z-]+)``", lab)), set(NV_FAULTS), "the lab's own faults that are documented, and those there are")


def test_a_vm_with_several_psps(context):
    """The first is SEV's; with the first out of order another is."""
    trace, state = context.directory / "trace", context.directory / "state"
    script = "cat /sys/bus/pci/devices/*/device | grep -c 0x1486; lspci -d 1022:1486 | wc -l; dmesg | grep 'psp: unable to access'"
    for driver in ("upstream", "rust"):
        for broken, serving in ((2, 1), (1, 2)):
            output = inside(context, script, "--driver", driver, "--psps", 3, "--trace", trace, "--state", state,
                            "--fault", f"{broken}/all-ones")
            counts, messages = output.splitlines()[:2], output.splitlines()[2:]
            equal((counts, len(messages)), (["3", "3"], 1), "functions in sysfs, functions of lspci, complaints about one")
            traces = [trace, context.directory / "trace.2", context.directory / "trace.3"]
            served = [number for number, file in enumerate(traces, start=1) if "INIT" in commands(file)]
            equal(served, [serving], f"who is initialised by {driver} when PSP {broken} is out of order")
    chips = {(context.directory / name / "chip").read_bytes() for name in ("state", "state.2", "state.3")}
    equal(len(chips), 3, "different chips")


def test_bad_numbers_and_parameters_are_refused(context):
    cases = {
        ("--fault", "2/late:5"): "there is no PSP number 2",
        ("--fault", "0/late:5"): "there is no PSP number 0",
        ("--psps", "5"): "5 is not between 1 and 4",
        ("--module-param", "ccp.psp_poll"): "not of the form",
        ("--module-param", "ccp.init_ex_path=/a b"): "not of the form",
        ("--module-param", "kvm.x=1"): "the lab loads ccp, kvm-amd",
    }
    for arguments, message in cases.items():
        result = context.lab("run", *arguments, "true")
        equal((result.stdout, result.returncode), (b"", 2), f"stdout and status of {arguments}")
        contains(result.stderr.decode(), message, f"stderr of {arguments}")


def test_a_psp_that_vanishes_in_the_middle_of_a_command(context):
    """It may take a while to be noticed, but ends: callers get errors, and the driver can be unloaded."""
    share = sev_bench(context)
    script = """
        for command in --get-id --calls=1; do /mnt/share/sev-bench --warm-up 0 --calls 1 $command | cut -d' ' -f1-3; done
        setpci -s $(basename /sys/bus/pci/drivers/ccp/0000:*) VENDOR_ID
        modprobe -r kvm-amd && modprobe -r ccp 2>/dev/null; ls /sys/module/ccp 2>/dev/null; echo unloaded"""
    output = inside(context, script, "--share", share, "--fault", "vanish:GET_ID", *IMPATIENT)
    equal(output, "get_id calls=1 failed=1\nplatform_status calls=1 failed=1\nffff\nunloaded\n", "answers")


def test_a_firmware_that_forgets_a_command_is_back_after_rebind(context):
    share = sev_bench(context)
    script = """
        device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
        /mnt/share/sev-bench --warm-up 0 --calls 1 --get-id | cut -d' ' -f1-3
        echo $device >/sys/bus/pci/drivers/ccp/unbind; echo $device >/sys/bus/pci/drivers/ccp/bind
        /mnt/share/sev-bench --warm-up 0 --calls 1 --get-id | cut -d' ' -f1-3"""
    output = inside(context, script, "--share", share, "--fault", "forgotten:GET_ID:1", *IMPATIENT)
    equal(output, "get_id calls=1 failed=1\nget_id calls=1 failed=0\n", "answers before and after")


def test_interrupts_of_somebody_else_are_lived_with(context):
    share = sev_bench(context)
    # On a busy machine any interrupt may come too late: one that is mistaken for the answer costs every command its own.
    script = "/mnt/share/sev-bench --warm-up 0 --calls 30 | cut -d' ' -f1-3; dmesg | grep -c 'without its interrupt (8 so far)'; true"
    output = inside(context, script, "--share", share, "--fault", "spurious-irq")
    equal(output, "platform_status calls=30 failed=0\n0\n", "answers, and whether interrupts are thought lost")
