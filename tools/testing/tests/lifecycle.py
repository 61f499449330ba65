# SPDX-License-Identifier: GPL-2.0
"""The driver comes and goes while others use it: unbind, removal, unload, faults, all under load.

SEV_CYCLES and SEV_SOAK_SECONDS make two of the tests last longer (Documentation/testing.rst). Upstream's driver has no
part in this: it crashes when the device goes while /dev/sev is open.
"""

import random
import re
import time

from lab import chance, storms
from lab.clients import sev_kvm
from lab.suites import Failure, contains, equal, watched

KERNELS = ("kunit", "debug")

CYCLES = storms.number("SEV_CYCLES", 20)
SOAK_SECONDS = storms.number("SEV_SOAK_SECONDS", 10)

# KiB. What is measured differs by some 30 between equal moments, by more on a busy machine, where the kernel frees later; a
# page lost per cycle is 4000 in 1000 cycles.
NOISE = 512

# Answers of /dev/sev while the device comes and goes; and of KVM, whose guests are lost when it goes: what it asks for them
# afterwards the firmware refuses; while there is no PSP, no ASID can be recycled.
CALLERS = {"open": {"ENOENT", "ENODEV"},
           **dict.fromkeys(("platform_status", "get_id2", "pdh_cert_export", "pek_csr"), {"ENODEV"})}
KVMS = {"ENODEV", "EIO"}

# `while_busy COMMAND` runs a storm and rebinds the device as long as it lasts.
REBIND = """
    device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
    rebind() {
        echo $device >/sys/bus/pci/drivers/ccp/unbind && sleep 0.1 && echo $device >/sys/bus/pci/drivers/ccp/bind && sleep 0.3
    }
    while_busy() {
        "$@" >/tmp/storm & storm=$!
        # Its first line says that all its processes are there.
        while kill -0 $storm 2>/dev/null && ! [ -s /tmp/storm ]; do sleep 0.1; done
        rounds=0
        while kill -0 $storm 2>/dev/null; do rebind || return; rounds=$((rounds + 1)); done
        wait $storm && cat /tmp/storm && echo "rounds $rounds"
    }
"""

# PLATFORM_STATUS through a file that stays open, descriptor 3.
STATUS = r"""
import ctypes, errno, fcntl, struct
buffer = ctypes.create_string_buffer(12)
argument = bytearray(struct.pack("<IQI", 1, ctypes.addressof(buffer), 0))
try:
    fcntl.ioctl(3, 0xc0105300, argument)
    print("state %d" % buffer.raw[2])
except OSError as error:
    print(errno.errorcode[error.errno])
"""

# Memory in KiB that is neither free nor anybody's whom /proc knows, and what slabs take, before and after many cycles.
MEMORY = r"""
import re, subprocess, sys, time
def sample():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")
    with open("/proc/meminfo") as file:
        info = {name: int(value) for name, value in re.findall(r"^(\S+):\s+(\d+)", file.read(), re.M)}
    with open("/proc/zoneinfo") as file:
        on_cpus = 4 * sum(map(int, re.findall(r"^\s+count:\s+(\d+)", file.read(), re.M)))
    known = ("MemFree", "Cached", "Buffers", "AnonPages", "PageTables", "KernelStack")
    return info["MemTotal"] - on_cpus - sum(info[name] for name in known)
def used():
    best = sample()
    for _ in range(6):
        time.sleep(0.3)
        best = min(best, sample())
    return best
def cycle(times):
    for _ in range(times):
        subprocess.run("modprobe -r kvm-amd && ! [ -e /sys/module/ccp ] && modprobe kvm-amd", shell=True, check=True)
cycle(5)
print(used())
cycle(int(sys.argv[1]))
print(used())
"""


def while_gone(call, errno, _status):
    """Whether an answer is one of those that are right while the device comes and goes."""
    return errno in CALLERS.get(call, KVMS) or (call, errno) == ("init2", "EBUSY")


def host(context, script, *options, smp=1, longer=0):
    """Run a script in a host; the lines it printed. Fails if it ends otherwise, or if the kernel complained."""
    result = context.lab("run", "--kernel", "kunit", "--smp", smp, "--timeout", 300 + longer, *options, "--",
                         "sh", "-c", watched(script), longer=longer)
    if result.returncode:
        raise Failure(f"status {result.returncode}\n{result.stdout.decode()}\n{result.stderr.decode()}")
    return result.stdout.decode().splitlines()


def test_unload_is_refused_while_something_uses_the_driver(context):
    script = """
        refused() { if modprobe -r ccp 2>/tmp/why; then echo unloaded; else grep -o 'Module ccp is in use' /tmp/why; fi; }
        loaded() { [ -e /sys/module/ccp ] && [ -e /dev/sev ] && echo loaded || echo gone; }
        rmmod ccp 2>&1 | grep -o 'in use by: kvm_amd'; loaded
        exec 3<>/dev/sev; modprobe -r kvm-amd; refused; loaded
        exec 3>&-; modprobe -r ccp && loaded
        modprobe kvm-amd && loaded; grep -c sev /proc/misc"""
    equal(host(context, script), ["in use by: kvm_amd", "loaded", "Module ccp is in use", "loaded", "gone", "loaded", "1"],
          "with KVM, with a file, with neither, and again")


def test_a_device_that_is_removed_and_found_again_works(context):
    script = f"""
        device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
        exec 3<>/dev/sev
        status() {{ python3 -c '{STATUS}'; }}
        status; echo 1 >/sys/bus/pci/devices/$device/remove; status; [ -e /dev/sev ] || echo 'no node'
        echo 1 >/sys/bus/pci/rescan; [ -e /sys/bus/pci/drivers/ccp/$device ] && echo bound; status
        /mnt/share/sev-kvm fill 1"""
    equal(host(context, script, "--model", "naples", "--share", sev_kvm(context)),
          ["state 1", "ENODEV", "no node", "bound", "state 0", "sev: 15 guests, then EBUSY error=0x5a5a5a5a", "full: guests 15",
           "empty: guests 0"], "one file before, between and after; guests")


def test_rebinding_under_load(context):
    """Four processes call /dev/sev and four launch guests while the device is unbound and bound again."""
    seed = chance.seed()
    storm = storms.command(seed, 8, 4, 4, "let")
    lines = host(context, f"{REBIND} while_busy {storm} && /mnt/share/sev-kvm fill 1", "--share", sev_kvm(context), smp=2)
    launched = storms.check_answers(lines, seed, while_gone)
    rounds = int(next(line for line in lines if line.startswith("rounds ")).split()[1])
    if not rounds:
        raise Failure("the device was never unbound")
    if not any(errno in ("ENODEV", "ENOENT") for _, errno, _ in storms.answers(lines)):
        raise Failure(f"seed {seed}: nobody saw that the device was away in {rounds} rounds")
    equal(lines[-4:], ["sev-es: 99 guests, then EBUSY error=0x5a5a5a5a", "sev: 410 guests, then EBUSY error=0x5a5a5a5a",
                       "full: guests 509", "empty: guests 0"], f"seed {seed}: guests at once after it")
    print(f"     seed {seed}: {rounds} times unbound, {launched} guests launched", flush=True)


def test_loading_and_unloading_uses_no_memory_up(context):
    # Python's own heap is not counted: it is AnonPages.
    lines = host(context, f"cat >/tmp/memory.py <<'EOF'\n{MEMORY}\nEOF\npython3 /tmp/memory.py {CYCLES}", longer=4 * CYCLES)
    before, after = map(int, lines)
    if after - before > NOISE:
        raise Failure(f"{CYCLES} cycles took {after - before} KiB of memory")
    print(f"     {CYCLES} cycles: {after - before} KiB of memory", flush=True)


def _faults(lots):
    """Some faults that a driver lives with; guests may be refused for them, but none is lost."""
    def any_command():
        return lots.choice(("any", "INIT", "DF_FLUSH", "PLATFORM_STATUS", "LAUNCH_START", "ACTIVATE", "DEACTIVATE",
                            "DECOMMISSION", "LAUNCH_UPDATE_DATA", "DBG_DECRYPT"))

    def refusable():
        # Without what ends guests, because KVM does not try that again, and without what storms begin with and are counted by.
        return lots.choice(("GET_ID", "PEK_CSR", "LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_VMSA",
                            "DBG_ENCRYPT", "ATTESTATION", "SEND_START", "RECEIVE_START"))

    faults = [f"late:{lots.randint(1, 400)}:{any_command()}:{lots.randint(1, 10)}",
              f"lost-irq:{any_command()}:{lots.randint(1, 10)}", f"late-irq:{lots.randint(1, 400)}:{any_command()}:{lots.randint(1, 10)}",
              "double-irq", f"early-irq:{any_command()}",
              f"status:{lots.choice((0x3, 0x13, 0x17))}:{refusable()}:{lots.randint(1, 5)}"]
    return [word for fault in lots.sample(faults, lots.randint(1, len(faults))) for word in ("--fault", fault)]


def test_everything_at_once(context):
    """Load, kills, rebinding, removal, unloading, and faults as the seed has it."""
    seed, share = chance.seed(), sev_kvm(context)
    lots = random.Random(seed)
    end = time.monotonic() + SOAK_SECONDS
    runs = launched = 0
    while not runs or time.monotonic() < end:
        model, faults = lots.choice(("naples", "milan", "turin")), _faults(lots)
        seconds = min(SOAK_SECONDS, 30)
        storm, kills = (storms.command(lots.randrange(1 << 32), length, callers, launchers, end_)
                        for length, callers, launchers, end_ in
                        ((seconds // 2 or 1, 4, 4, lots.choice(("kill", "let"))), (seconds // 3 or 1, 6, 2, "kill")))
        script = f"""{REBIND}
            while_busy {storm} && {kills} &&
            echo 1 >/sys/bus/pci/devices/$device/remove && echo 1 >/sys/bus/pci/rescan &&
            modprobe -r kvm-amd && ! [ -e /sys/module/ccp ] && modprobe kvm-amd && /mnt/share/sev-kvm fill 1"""
        try:
            lines = host(context, script, "--model", model, "--share", share, *faults, smp=2)
            # Both storms' answers; a refusal by the firmware is a fault's.
            launched += storms.check_answers(lines, seed, lambda *what: while_gone(*what) or what[1] in ("EIO", "EBUSY"))
            equal(lines.count("afterwards: guests 0"), 2, "storms that left nothing")
            equal(lines[-1], "empty: guests 0", "the end")
        except Failure as failure:
            raise Failure(f"seed {seed}, run {runs + 1} on {model} with {' '.join(faults)}: {failure}") from failure
        runs += 1
    print(f"     seed {seed}: {runs} runs, {launched} guests launched", flush=True)


def test_the_debug_kernel_says_nothing_of_any_of_it(context):
    """KASAN, lockdep and kmemleak over guests that are killed, the device rebound under load, and unload."""
    seed, seconds = chance.seed(), 5
    script = f"""{REBIND}
        {storms.command(seed, seconds, storms.PROCESSES, 0, "kill")} || exit
        while_busy {storms.command(seed, seconds, 4, 4, "let")} || exit
        modprobe -r kvm-amd && modprobe -r ccp || exit
        echo scan >/sys/kernel/debug/kmemleak; sleep 5; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak
        echo 'the kernel:'; dmesg"""
    result = context.lab("run", "--kernel", "debug", "--mem", 2048, "--share", sev_kvm(context), "--timeout", 600, "--",
                         "sh", "-c", script)
    printed, kernel = (result.stdout.decode() + "the kernel:\n").split("the kernel:\n", 1)
    equal(result.returncode, 0, f"seed {seed}: status, with {printed}{result.stderr}")
    equal(printed.count("afterwards: guests 0"), 2, f"seed {seed}: storms that left nothing")
    contains(kernel, "KernelAddressSanitizer", "the kernel's messages")
    # The module is gone by then, so a report would not name its functions: any leak counts.
    found = storms.complaints(kernel) + re.findall("unreferenced object.*", printed)
    if found:
        raise Failure(f"seed {seed}: {found}\n{kernel}\n{printed}")
