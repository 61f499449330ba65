# SPDX-License-Identifier: GPL-2.0
"""What happens to a PSP around its commands: reboot, panic, sleep, kdump, updates, reports, several of them."""

import json
import re
from pathlib import Path

from lab import programs
from lab.clients import sev_bench, sev_ioctl, sev_kvm
from lab.hosts import host
from lab.suites import Failure, contains, equal

# What the tests boot; made before the first, which has no time for that.
KERNELS = ("kunit", "debian", "debug")

FUNCTIONS = r"""
    lines() { dmesg -c | sed -n 's/^\[[^]]*\] ccp 0000:[^ ]* //p' | grep -v '^firmware: failed to load\|without its interrupt'; }
    call() { /mnt/share/sev-ioctl "$@" | sed 's/^ *//' | cut -d' ' -f1-4; }
    device=$(ls -d /sys/bus/pci/drivers/ccp/0000:* | head -1)
    dmesg -c >/dev/null
"""


def commands(trace):
    """Names of the commands a PSP was given."""
    return [line["name"] for line in map(json.loads, trace.read_text().splitlines()) if line["event"] == "command"]


def test_power_off_shuts_the_platform_down(context):
    trace = context.directory / "trace"
    context.lab("run", "--kernel", "kunit", "--smp", 1, "--trace", trace, "--", "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 60")
    equal(commands(trace)[-1], "SHUTDOWN", "the last command")


def test_a_panic_shuts_the_platform_down(context):
    trace = context.directory / "trace"
    result = context.lab("run", "--kernel", "kunit", "--smp", 1, "--trace", trace, "--", "sh", "-c",
                         "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
    contains(result.stderr.decode(), "the guest kernel panicked", "the end")
    equal(commands(trace)[-1], "SHUTDOWN", "the last command")
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    shutdown = [line for line in lines if line.get("name") == "SHUTDOWN"][0]
    equal(shutdown["interrupt"], False, "interrupts of the last command")


def test_a_panic_waits_for_a_psp_that_takes_its_time(context):
    """On the kernel with assertions: a wait that the kernel does not take would be a second panic."""
    trace = context.directory / "trace"
    result = context.lab("run", "--kernel", "debug", "--smp", 1, "--trace", trace, "--fault", "late:100:SHUTDOWN", "--", "sh", "-c",
                         "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
    text = result.stderr.decode()
    contains(text, "the guest kernel panicked", "the end")
    equal(commands(trace)[-1], "SHUTDOWN", "the last command")
    after = Path(re.search(r"(/\S*console\.log)", text)[1]).read_text(errors="replace").split("Kernel panic - not syncing")[1:]
    equal(len(after), 1, "panics")
    equal(re.findall(r"kernel BUG at.*|.*timed out, disabling PSP.*", after[0]), [], "what went wrong during the panic")


def test_a_kernel_that_dumps_another_leaves_the_firmware_alone(context):
    trace = context.directory / "trace"
    # Whoever is told where a crashed kernel's core is counts as such a kernel.
    # There is no core there, which the kernel warns about: so the log is not checked for warnings.
    result = context.lab("run", "--append", "elfcorehdr=0x100000", "--trace", trace, "--", "sh", "-c",
                         "dmesg | grep -o 'SEV: this kernel dumps.*'; ls /dev/sev 2>&1; dmesg | grep -c 'kvm_amd: SEV enabled'; true")
    output = result.stdout.decode()
    contains(output, "SEV: this kernel dumps another, the firmware is left alone\n", "the log")
    contains(output, "cannot access '/dev/sev'", "the node")
    equal(commands(trace), [], "commands")


# Begins another kernel in the same machine: kexec_file_load(2), and reboot(2) with LINUX_REBOOT_CMD_KEXEC.
KEXEC = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
kernel, initramfs = (os.open(path, os.O_RDONLY) for path in sys.argv[1:3])
line = sys.argv[3].encode() + b"\\0"
if libc.syscall(320, kernel, initramfs, len(line), line, 0) == 0:
    libc.reboot(0x45584543)
sys.exit(os.strerror(ctypes.get_errno()))
"""


def test_a_kernel_after_kexec_finds_the_platform_shut_down(context):
    """Debian's kernel begins itself, with an initramfs that loads the driver."""
    share, trace = context.directory / "share", context.directory / "trace"
    share.mkdir()
    (share / "kexec.py").write_text(KEXEC)
    result = context.lab("run", "--smp", 1, "--share", share, "--trace", trace, "--", "sh", "-c", """
        modules=/lib/modules/$(uname -r); mkdir -p /tmp/new/bin; cd /tmp/new
        cp /bin/busybox bin/; cp $(modinfo -n ccp) ccp.ko; mkdir proc
        printf '#!/bin/busybox sh\nbusybox mount -t proc proc /proc; busybox insmod /ccp.ko; busybox poweroff -f\n' >init
        chmod +x init; find . | busybox cpio -o -H newc >/tmp/initramfs 2>/dev/null
        python3 /mnt/share/kexec.py $modules/vmlinuz /tmp/initramfs "$(cat /proc/cmdline) second"; exit""")
    console = Path(re.search(r"(/\S*console\.log)", result.stderr.decode())[1]).read_text(errors="replace")
    second = console.split("Command line:")[2]
    contains(second.splitlines()[0], " second", "the second kernel's command line")
    equal(re.findall(r"SEV: .*|SEV firmware .*", second), ["SEV firmware 1.55 build 21"], "what the driver says there")
    names = commands(trace)
    equal(names[names.index("SHUTDOWN"):], ["SHUTDOWN", "PLATFORM_STATUS"], "the last of one kernel, and the first of the next")


def test_sleep_shuts_the_platform_down_and_guests_forbid_it(context):
    """As far as the kernel's own test mode goes: user space is frozen and thawed."""
    share, trace = sev_kvm(context), context.directory / "trace"
    (share / "guest.py").write_text(GUEST)
    output = host(context, FUNCTIONS + """
        echo freezer >/sys/power/pm_test
        echo freeze >/sys/power/state && echo slept; lines
        python3 /mnt/share/guest.py & until [ -e /tmp/launched ]; do sleep 0.1; done
        lines >/dev/null; echo freeze >/sys/power/state || echo refused; lines
        kill $!; wait; sleep 1; echo freeze >/sys/power/state && echo slept""", "--share", share, "--trace", trace, kernel="debian")
    equal(output.splitlines()[0], "slept", "without guests")
    contains(output, "refused\nSEV: guests would lose their keys: not going to sleep\n", "with a guest")
    equal(output.splitlines()[-1], "slept", "after it")
    names = commands(trace)
    equal(names[names.index("SHUTDOWN"):names.index("LAUNCH_START")].count("INIT"), 1, "INITs between sleep and the guest")


def asleep(context, script, *options):
    """What a script says that puts a machine to sleep, and the commands from the first sleep on.

    9P does not wake up. So `call` is in memory, and `say` goes to the kernel's log.
    """
    share, trace = sev_ioctl(context), context.directory / "trace"
    result = context.lab("run", "--share", share, "--trace", trace, "--fault", "late:5", *options, "--", "sh", "-c", f"""
        mkdir /tmp/lib; cp /mnt/share/sev-ioctl $(ldd /mnt/share/sev-ioctl | grep -o '/[^ ]*') /tmp/lib
        say() {{ echo "lab: $*" >/dev/kmsg; }}
        call() {{ /tmp/lib/ld-linux-x86-64.so.2 --library-path /tmp/lib /tmp/lib/sev-ioctl $1 >/tmp/out; read -r line </tmp/out; say $line; }}
        call platform_status; {script}
        echo o >/proc/sysrq-trigger; while :; do :; done""")
    console = Path(re.search(r"(/\S*console\.log)", result.stderr.decode())[1]).read_text(errors="replace")
    first, *said = (" ".join(line.split()[:4]) for line in re.findall(r"lab: (.*)", console))
    equal(first, "status ro OK error=0", "before sleep")
    equal(re.findall(r"without its interrupt \(8 so far\)|SEV: .*failed.*|WARNING.*|BUG.*", console.split("lab: ", 1)[1]), [], "complaints")
    names = commands(trace)
    return said, names[names.index("SHUTDOWN"):]


AWAKE = ["PLATFORM_STATUS", "INIT", "DF_FLUSH", "PDH_GEN", "SHUTDOWN"]


def test_sleep_as_deep_as_the_kernel_can_try_it(context):
    """Suspend to RAM with devices, platform, processors and core asleep for a second."""
    said, told = asleep(context, """echo 1 >/sys/module/suspend/parameters/pm_test_delay
        for level in devices platform processors core; do
            echo $level >/sys/power/pm_test; echo mem >/sys/power/state && say $level; call pdh_gen
        done""")
    equal(said, [line for level in ("devices", "platform", "processors", "core") for line in (level, "pdh_gen rw OK error=0")],
          "what wakes up, and a key command after it")
    equal(told, ["SHUTDOWN", *AWAKE * 4], "commands")


def test_hibernation(context):
    """To a disk and back, without power-off between: what the image was made of is there again."""
    said, told = asleep(context, """mkswap /dev/vda >/dev/null; swapon /dev/vda; cat /sys/block/vda/dev >/sys/power/resume
        echo test_resume >/sys/power/disk; echo disk >/sys/power/state && say back; call pdh_gen""", "--disk", "ram:1G", "--mem", "512")
    equal(said, ["back", "pdh_gen rw OK error=0"], "what wakes up, and a key command after it")
    equal(told, ["SHUTDOWN", *AWAKE], "commands")


# Launches a SEV guest, says so, and keeps it.
GUEST = """
import ctypes, fcntl, os, struct, time
kvm, sev = os.open("/dev/kvm", os.O_RDWR), os.open("/dev/sev", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xae01, 2)
def op(number, data):
    buffer = ctypes.create_string_buffer(data, len(data))
    command = bytearray(struct.pack("<IIQII", number, 0, ctypes.addressof(buffer), 0, sev))
    fcntl.ioctl(vm, 0xc008aeba, command)
op(22, bytes(64))
op(2, struct.pack("<IIQIIQII", 0, 0, 0, 0, 0, 0, 0, 0))
open("/tmp/launched", "w").close()
time.sleep(600)
"""


# The same guest, which asks for its measurement, says what came of it, and stays.
MEASURE = GUEST.split('open("/tmp/launched"')[0] + """
answer = ctypes.create_string_buffer(48)
try:
    op(6, struct.pack("<QII", ctypes.addressof(answer), len(answer), 0))
    print("measured" if any(answer.raw) else "nothing", flush=True)
except OSError as error:
    print(os.strerror(error.errno), flush=True)
open("/tmp/launched", "w").close()
time.sleep(600)
"""


def test_what_a_silent_psp_may_still_write_for_kvm_is_not_kvms_memory(context):
    """KVM frees its memory when the command times out; what stays with the PSP is a copy."""
    share = sev_kvm(context)
    (share / "guest.py").write_text(MEASURE)
    script = FUNCTIONS + """
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout
        python3 /mnt/share/guest.py & until [ -e /tmp/launched ]; do sleep 0.1; done; lines | grep 'timed out'
        echo 1 >$device/sev_reset; lines | grep '^SEV: reset'"""
    output = host(context, script, "--share", share, "--fault", "forgotten:LAUNCH_MEASURE:1")
    # The command's page, and the 48 bytes for its answer.
    equal(output.splitlines(), [
        "Connection timed out", "sev command 0x33 timed out, disabling PSP (LAUNCH_MEASURE, no answer for 1000 ms)",
        "SEV: reset: leaking 4144 bytes that an unanswered command may still write to", "SEV: reset: the PSP answers again"],
          "who keeps what")
    equal(host(context, script.split("echo 1 >$device")[0] + "true", "--share", share).splitlines(), ["measured"], "one that answers")


def test_firmware_is_updated_on_request_and_not_under_guests(context):
    share = sev_ioctl(context)
    context.output(programs.make_firmware(context.root), "milan", "1.56.1", share / "new", binds=[(share, share, False)])
    (share / "guest.py").write_text(GUEST)
    output = host(context, FUNCTIONS + """
        update() { echo 1 2>/tmp/error >$device/sev_update_firmware && echo updated || echo refused; }
        update 2>/dev/null; lines
        mkdir -p /lib/firmware/amd; cp /mnt/share/new /lib/firmware/amd/sev.fw
        python3 /mnt/share/guest.py & until [ -e /tmp/launched ]; do sleep 0.1; done
        lines >/dev/null; update 2>/dev/null; lines
        sed -n '/^firmware-file/p' /sys/kernel/debug/ccp/*/report
        kill $!; wait; sleep 1
        update; lines; sevctl show version; call pdh_gen; sed -n '/^firmware/p' /sys/kernel/debug/ccp/*/report""", "--share", share)
    size = (share / "new").stat().st_size
    equal(output.splitlines(), [
        "refused",
        "refused", "SEV: firmware not updated: guests exist, end them first",
        f"firmware-file: amd/sev.fw ({size} bytes), not taken: (not called), rc -16",
        "updated", "SEV API:1.56 build:1", "SEV firmware updated from 1.55.21 to 1.56.1", "1.56.1", "pdh_gen rw OK error=0",
        "firmware: 1.56.1", "firmware-before-update: 1.55.21", f"firmware-file: amd/sev.fw ({size} bytes)",
    ], "what is said and done")


def test_reports_exist_when_init_failed(context):
    share = sev_ioctl(context)
    output = host(context, "cat /sys/kernel/debug/ccp/*/report", "--share", share, "--fault", "status:0x13:INIT",
                  "--fault", "lost-irq:PLATFORM_STATUS:1")
    for line in ("bootloader: 00.13.00.72", "capabilities: 0x00008581", "firmware: 1.55.21", "firmware-file: none for this processor",
                 "initialised-with: nothing yet", "tmr: 1048576 bytes", "late-answers: 0",
                 "first-failure: INIT 0x0013 (HWERROR_PLATFORM), rc -5, at "):
        contains(output, line, "the report")
    contains(output, "\nINIT 1 1 ", "INIT's counters: count and failures")


def test_commands_are_traced(context):
    share = sev_ioctl(context)
    output = host(context, """
        cd /sys/kernel/tracing; [ -e trace ] || mount -t tracefs tracefs .; cd /sys/kernel/tracing
        echo 1 >events/ccp_sev/enable; /mnt/share/sev-ioctl pdh_gen get_id2 >/dev/null
        sed -n 's/.*sev_command: //p' trace | sed 's/ us=[0-9]*$/ us/'""", "--share", share, kernel="debian")
    for line in ("PDH_GEN id=0x9 status=0x0 rc=0 us", "GET_ID id=0xc status=0x0 rc=0 us"):
        contains(output, line, "the trace")


def test_the_security_attributes_are_those_of_upstream(context):
    script = """cd /sys/bus/pci/drivers/ccp/0000:*; grep . bootloader_version tee_version fused_part boot_integrity debug_lock_on \
        tsme_status anti_rollback_status rpmc_production_enabled rpmc_spirom_available hsp_tpm_available rom_armor_enforced 2>/dev/null"""
    for model in ("naples", "milan", "turin"):
        ours, upstream = (host(context, script + "; true", "--model", model, "--driver", driver) for driver in ("rust", "upstream"))
        equal(ours, upstream, f"the attributes on {model}")


def test_several_psps_one_serves_and_the_next_takes_over(context):
    share, trace = sev_ioctl(context), context.directory / "trace"
    output = host(context, FUNCTIONS + """
        set -- $(ls /sys/bus/pci/drivers/ccp | grep ^0000); cd /sys/bus/pci/drivers/ccp
        ls /sys/kernel/debug/ccp | wc -l; call platform_status
        echo $3 >unbind; call pdh_gen
        exec 9<>/dev/sev
        echo $1 >unbind; lines | grep 'SEV firmware'; call pdh_gen; ls /sys/kernel/debug/ccp | wc -l
        echo $1 >bind; lines; call pdh_gen
        echo $2 >unbind; call pdh_gen
        echo $1 >unbind; ls /dev/sev 2>&1; echo $3 >bind; call pdh_gen""", "--share", share, "--psps", 3, "--trace", trace)
    equal(output.splitlines(), [
        "3", "status ro OK error=0",
        # A secondary goes: nobody notices.
        "pdh_gen rw OK error=0",
        # The one in use goes: the second takes over.
        "SEV firmware 1.55 build 21", "pdh_gen rw OK error=0", "1",
        # It comes back, and stands by.
        "SEV API:1.55 build:21", "sev enabled", "psp enabled", "psp: stands by, another PSP serves SEV", "pdh_gen rw OK error=0",
        # The second goes: the first again.
        "pdh_gen rw OK error=0",
        # All go; one comes.
        "ls: cannot access '/dev/sev': No such file or directory", "pdh_gen rw OK error=0",
    ], "what users see")
    counts = [commands(context.directory / f"trace{suffix}").count("PDH_GEN") for suffix in ("", ".2", ".3")]
    equal(counts, [2, 2, 1], "PDH_GEN commands of each")
    for suffix in ("", ".2"):
        names = commands(context.directory / f"trace{suffix}")
        equal(names.count("SHUTDOWN") >= 1, True, f"PSP {suffix or '.1'} was shut down")


def test_a_psp_that_stands_by_is_sent_nothing(context):
    trace = context.directory / "trace"
    output = host(context, FUNCTIONS + """
        set -- $(ls /sys/bus/pci/drivers/ccp | grep ^0000); cd /sys/bus/pci/drivers/ccp
        mkdir -p /lib/firmware/amd; echo any >/lib/firmware/amd/sev.fw
        for attribute in sev_reset sev_update_firmware; do /bin/echo 1 2>&1 >$2/$attribute; done | grep -o 'Device or resource busy'; lines
        echo 1 >$1/sev_reset && echo reset""", "--share", sev_ioctl(context), "--psps", 2, "--trace", trace)
    equal(output.splitlines(), ["Device or resource busy"] * 2 + ["psp: stands by and is sent no commands"] * 2 + ["reset"], "answers")
    equal(commands(context.directory / "trace.2"), [], "commands of the second")


def test_a_caller_that_is_killed_leaves_at_once(context):
    share = sev_ioctl(context)
    output = host(context, FUNCTIONS + """
        /mnt/share/sev-ioctl get_id2 >/dev/null & first=$!; sleep 0.5
        /mnt/share/sev-ioctl pdh_gen >/dev/null & second=$!; sleep 0.5
        kill -9 $first $second; wait $first $second; echo gone; call platform_status; lines""",
                  "--share", share, "--smp", 2, "--fault", "late:6000:GET_ID:1")
    equal(output.splitlines(), ["gone", "status ro OK error=0", "SEV: the PSP answered late and is back (GET_ID)"],
          "who waits for the answer and who waits for the lock; the next caller waits for what is owed")


def test_callers_that_are_killed_leave_at_once_also_with_a_file(context):
    """The first keeps the file's lock while its command is not answered, for longer than all this takes."""
    share = sev_ioctl(context)
    (share / "guest.py").write_text(GUEST)
    output = host(context, FUNCTIONS + """
        asleep() { until grep -q ') D ' /proc/$1/stat; do sleep 0.1; done; sleep 0.5; }
        /mnt/share/sev-ioctl pdh_gen >/dev/null & first=$!; asleep $first
        /mnt/share/sev-ioctl pek_gen >/dev/null & second=$!; asleep $second
        python3 /mnt/share/guest.py & third=$!; asleep $third
        kill -9 $second $third; wait $second $third; grep -q ') Z ' /proc/$first/stat || echo gone""",
                  "--share", share, "--smp", 2, "--fault", "no-response:PDH_GEN", "--module-param", "ccp.init_ex_path=/var/lib/sev-nv/nv")
    equal(output.splitlines(), ["gone"], "who waits for the file, with a key command and with a guest")


def test_waiting_callers_are_served_in_order(context):
    """Each of eight callers gets its share, whatever the others do."""
    share = sev_bench(context)
    output = host(context, "/mnt/share/sev-bench --callers 8 --seconds 5", "--share", share, "--smp", 2)
    calls = [int(line.split("calls=")[1].split()[0]) for line in output.splitlines() if line.startswith("caller ")]
    if len(calls) != 8 or min(calls) * 2 < max(calls):
        raise Failure(output)


def test_a_suspicious_state_of_the_kernel_before_is_cleaned_up(context):
    """A kexec without shutdown, as seen from the kernel after it: the platform is initialised and nobody here did that."""
    trace = context.directory / "trace"
    output = host(context, FUNCTIONS + """
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; call platform_status
        echo ${device##*/} >/sys/bus/pci/drivers/ccp/unbind; lines >/dev/null
        echo ${device##*/} >/sys/bus/pci/drivers/ccp/bind; lines | grep 'SEV: '; call pdh_gen""",
                  "--share", sev_ioctl(context), "--trace", trace, "--fault", "status:0x13:SHUTDOWN:1")
    equal(output.splitlines(), ["status ro OK error=0", "SEV: left initialised by a kernel before this one, shutting it down",
                                "pdh_gen rw OK error=0"], "what is said")


def test_a_platform_that_will_not_be_shut_down_is_not_taken_over(context):
    """Its TMR and its data are memory of whoever was before; the first guest tries again."""
    share, trace = sev_ioctl(context), context.directory / "trace"
    (share / "guest.py").write_text(INITIALISE)
    output = host(context, FUNCTIONS + """
        echo ${device##*/} >/sys/bus/pci/drivers/ccp/unbind; lines >/dev/null
        echo ${device##*/} >/sys/bus/pci/drivers/ccp/bind; lines | grep 'SEV: '
        for i in 1 2; do python3 /mnt/share/guest.py; lines; done""",
                  "--share", share, "--trace", trace, "--fault", "status:0x14:SHUTDOWN:3")
    refused = "SEV: failed to SHUTDOWN 0x0014 (HWERROR_UNSAFE), rc -5: power-cycle the machine before it is trusted with guests"
    equal(output.splitlines(), ["SEV: left initialised by a kernel before this one, shutting it down", refused,
                                "refused: errno 5", refused, "initialised", "SEV API:1.55 build:21"], "what is said")
    equal(commands(trace)[-7:], ["SHUTDOWN", "PLATFORM_STATUS", "SHUTDOWN", "SHUTDOWN", "SHUTDOWN", "INIT", "DF_FLUSH"],
          "at unbind, at bind, for the first guest, for the second")


# Tries to begin a SEV guest.
INITIALISE = GUEST.split("op(22")[0] + """
try:
    op(22, bytes(64))
    print("initialised")
except OSError as error:
    print("refused: errno", error.errno)
"""


def test_the_debug_kernel_has_nothing_to_say_about_any_of_it(context):
    """KASAN, lockdep and kmemleak over the file of the data, reports, traces, a killed caller, a reset and updates."""
    share = sev_ioctl(context)
    context.output(programs.make_firmware(context.root), "milan", "1.56.1", share / "new", binds=[(share, share, False)])
    output = host(context, FUNCTIONS + """
        [ -e /sys/kernel/tracing/trace ] || mount -t tracefs tracefs /sys/kernel/tracing
        echo 1 >/sys/kernel/tracing/events/ccp_sev/enable
        call pek_gen; cat /sys/kernel/debug/ccp/*/report >/dev/null
        mkdir -p /lib/firmware/amd; cp /mnt/share/new /lib/firmware/amd/sev.fw; echo 1 >$device/sev_update_firmware && echo updated
        /mnt/share/sev-ioctl get_id2 >/dev/null & sleep 1; kill -9 $!; wait $!; call platform_status
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; call platform_status
        call pdh_gen; echo 1 >$device/sev_reset && echo reset; cat /sys/kernel/debug/ccp/*/report | grep -c ^PDH_GEN
        set -- $(ls /sys/bus/pci/drivers/ccp | grep ^0000)
        for psp in $1 $2; do echo $psp >/sys/bus/pci/drivers/ccp/unbind; echo $psp >/sys/bus/pci/drivers/ccp/bind; done
        call pek_csr; rmmod kvm-amd; rmmod ccp
        echo scan >/sys/kernel/debug/kmemleak; sleep 6; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak
        [ -e /proc/lockdep ] && echo checked""", "--share", share, "--psps", 2, "--mem", 2048, "--module-param",
                  "ccp.init_ex_path=/var/lib/sev-nv/nv", "--fault", "late:4000:GET_ID:1", "--fault", "forgotten:PDH_GEN:1", kernel="debug")
    # What the reset gives up is the firmware's for ever: the command's page, which kmemleak does not watch.
    equal(output.splitlines(), ["pek_gen rw OK error=0", "updated", "status ro OK error=0", "status ro OK error=0",
                                "pdh_gen rw ETIMEDOUT error=0", "reset", "3", "pek_csr rw OK error=0", "checked"], "answers")
