# SPDX-License-Identifier: GPL-2.0
"""The driver in the lab: real tools, faults of the PSP, unbind and unload."""

import shutil
import struct
import subprocess
from pathlib import Path

from lab.clients import sev_ioctl
from lab.hosts import host
from lab.paths import CHECKOUT
from lab.processes import descendants, find
from lab.run import WBINVD
from lab.suites import Failure, contains, equal

# What the tests boot besides the Debian kernel; made before the first, which has no time for that.
KERNELS = ("kunit", "debug")

STORY = CHECKOUT / "tools/testing/story"


def test_the_story_of_make_run(context):
    story = subprocess.run([STORY / "run.sh"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    equal(story.returncode, 0, story.stdout)
    for part in ("updates/ccp.ko", "in Rust", "self-owned", "every signature is good", "the same as before the reboot",
                 "checks the report", "equal to the byte", "the owner keeps the secret", "state SENT", "RECEIVE_FINISH "):
        contains(story.stdout, part, "the story")


def test_sevctl_verifies_each_models_chain_up_to_its_root(context):
    # Milan has the story; Rome is Milan's device.
    for model in ("naples", "genoa", "turin"):
        share = context.directory / model
        (share / "psp").mkdir(parents=True)
        shutil.copy(STORY / "export-chain.py", share)
        script = """
            python3 /mnt/share/export-chain.py /mnt/share/psp/certs/cek.cert /mnt/share/chain &&
            sevctl verify --sev /mnt/share/chain --ca /mnt/share/psp/certs/ask_ark.cert >/dev/null && echo verified &&
            damage /mnt/share/chain 100 &&
            ! sevctl verify --sev /mnt/share/chain --ca /mnt/share/psp/certs/ask_ark.cert >/dev/null 2>&1 && echo refused"""
        output = host(context, script, "--model", model, "--share", share, "--state", share / "psp")
        equal(output, "verified\nrefused\n", f"a good chain and one with a changed key, on {model}")


def test_log_lines_that_administrators_look_for(context):
    output = host(context, "dmesg; ls -l /dev/sev; ls -d /sys/bus/pci/drivers/ccp/0000:*; cat /proc/interrupts",
                  kernel="debian")
    for line in ("sev enabled", "psp enabled", "SEV API:1.55 build:", "kvm_amd: SEV enabled (ASIDs ",
                 "kvm_amd: SEV-ES enabled (ASIDs ", "crw------- 1 root root", "psp-1"):
        contains(output, line, "dmesg and friends")


def test_a_file_outlives_unbind_and_works_after_rebind(context):
    script = """
        python3 - <<'EOF'
import ctypes, errno, fcntl, glob, os, struct
fd = os.open("/dev/sev", os.O_RDWR)
device = os.path.basename(glob.glob("/sys/bus/pci/drivers/ccp/0000:*")[0])
def status():
    buffer = ctypes.create_string_buffer(12)
    argument = bytearray(struct.pack("<IQI", 1, ctypes.addressof(buffer), 0))
    try:
        fcntl.ioctl(fd, 0xc0105300, argument)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "state %d" % buffer.raw[2]
def write(name):
    with open("/sys/bus/pci/drivers/ccp/" + name, "w") as file:
        file.write(device)
print(status())
write("unbind")
print(status(), os.path.exists("/dev/sev"))
for _ in range(5):
    write("bind")
    write("unbind")
write("bind")
print(status(), os.path.exists("/dev/sev"))
EOF"""
    equal(host(context, script), "state 1\nENODEV False\nstate 0 True\n", "before, between and after")


def test_unbind_waits_for_the_command_in_flight(context):
    share = sev_ioctl(context)
    script = """
        device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
        /mnt/share/sev-ioctl get_id2 >/tmp/out & sleep 0.5
        start=$(date +%s%N); echo $device >/sys/bus/pci/drivers/ccp/unbind; end=$(date +%s%N)
        wait; cut -d' ' -f1-4 /tmp/out; [ $((end - start)) -gt 500000000 ] && echo waited"""
    output = host(context, script, "--smp", 2, "--share", share, "--fault", "late:2000:GET_ID")
    equal(output, "get_id2 rw OK error=0\nwaited\n", "the command, and how long unbind took")


def test_unload_and_reload(context):
    share = sev_ioctl(context)
    script = """
        for i in 1 2 3; do modprobe -r kvm-amd && ! [ -e /sys/module/ccp ] && modprobe kvm-amd || exit 1; done
        /mnt/share/sev-ioctl platform_status | cut -d' ' -f3-5"""
    equal(host(context, script, "--smp", 2, "--share", share), "status ro OK\n", "after three rounds")


def test_unload_leaves_the_platform_shut_down(context):
    trace = context.directory / "trace"
    host(context, "modprobe -r kvm-amd; modprobe -r ccp; true", "--trace", trace)
    names = [line.split('"name":"')[1].split('"')[0] for line in trace.read_text().splitlines() if '"name"' in line]
    equal([name for name in names if name != "PLATFORM_STATUS"], ["INIT", "DF_FLUSH", "SHUTDOWN"], "commands")


# WBINVD is the kernel's; a program's attempt faults (QEMU lets it pass) and is no execution.
ATTEMPT = r"""import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\x0f\x09\xc3")
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()"""


def test_initialising_the_platform_executes_wbinvd_on_every_cpu(context):
    """Seen by the counters that the plugin of QEMU writes for the emulated PSP."""
    script = """
        echo booted; read go
        python3 -c "$1" 2>/dev/null; echo tried; read go
        modprobe ccp && modprobe kvm-amd && echo loaded; read go"""
    process = context.start("run", "--kernel", "kunit", "--smp", 3, "--driver", "none", "--timeout", 120,
                            "--", "sh", "-c", script, "sh", ATTEMPT, stdin=subprocess.PIPE)

    def counters(reached):
        equal(process.stdout.readline().decode(), f"{reached}\n", "what the guest has done")
        qemu = find(descendants(process.pid), "qemu-system-x86_64")
        data = Path(f"/proc/{qemu}/root{WBINVD}").read_bytes()
        equal(len(data), 3 * 8, "bytes of three counters")
        process.stdin.write(b"go\n")
        process.stdin.flush()
        return struct.unpack("<3Q", data)

    before, tried, after = counters("booted"), counters("tried"), counters("loaded")
    equal(process.wait(timeout=60), 0, "status")
    equal(tried, before, "the counters after a program's attempt")
    if not all(new > old for old, new in zip(before, after)):
        raise Failure(f"counters before {before} and after {after}")


def test_a_slow_psp_is_waited_for(context):
    """Slow means two seconds for INIT."""
    share = sev_ioctl(context)
    script = """
        start=$(date +%s%N); modprobe ccp && modprobe kvm-amd; end=$(date +%s%N)
        [ $((end - start)) -ge 2000000000 ] && echo slow
        /mnt/share/sev-ioctl platform_status | cut -d' ' -f3-5"""
    output = host(context, script, "--driver", "none", "--latency", "slow", "--share", share)
    equal(output, "slow\nstatus ro OK\n", "how long INIT took, and the state after it")


def test_polling_works_without_any_interrupt(context):
    share = sev_ioctl(context)
    script = """
        modprobe -r kvm-amd; modprobe -r ccp; modprobe ccp psp_poll=1 && modprobe kvm-amd
        /mnt/share/sev-ioctl platform_status pek_csr | cut -d' ' -f1-5
        dmesg | grep -c 'without its interrupt'"""
    # Late, because an answer that is there at once needs no interrupt.
    output = host(context, script, "--share", share, "--fault", "late:1", "--fault", "lost-irq")
    # The lines are of the first load, which used interrupts: 1, 2 and 4 of them.
    lines = output.splitlines()
    contains(lines[0], "status ro OK", "status")
    contains(lines[1], "pek_csr rw OK", "csr")
    if not 1 <= int(lines[2]) <= 3:
        raise Failure(f"{lines[2]} complaints about interrupts")


def test_a_psp_that_hides_is_left_alone(context):
    output = host(context, "dmesg | grep -o 'psp: unable to access the device'; ls /dev/sev 2>&1; "
                  "ls -d /sys/bus/pci/drivers/ccp/0000:* | wc -l; dmesg | grep -o 'kvm_amd: SEV disabled'",
                  "--fault", "all-ones")
    contains(output, "unable to access the device", "dmesg")
    contains(output, "No such file", "/dev/sev")
    contains(output, "\n1\n", "bound devices")
    contains(output, "kvm_amd: SEV disabled", "KVM is told the truth")


def test_a_psp_that_never_answers_is_served_and_says_so(context):
    share = sev_ioctl(context)
    output = host(context, "/mnt/share/sev-ioctl platform_status; dmesg | grep -E 'timed out|kvm_amd: SEV '",
                  "--fault", "no-response", "--share", share)
    contains(output, "status ro EBUSY", "/dev/sev")
    contains(output, "sev command 0x4 timed out, disabling PSP", "dmesg")
    contains(output, "kvm_amd: SEV disabled", "KVM is told the truth")


def test_a_mailbox_that_is_never_ready_times_out(context):
    share = sev_ioctl(context)
    output = host(context, "/mnt/share/sev-ioctl platform_status; dmesg | grep 'timed out'", "--fault", "stuck-busy",
                  "--share", share)
    contains(output, "status ro EBUSY", "/dev/sev")


def test_absurd_lengths_are_refused_and_nothing_leaks(context):
    share = sev_ioctl(context)
    output = host(context, "/mnt/share/sev-ioctl get_id2 platform_status", "--fault", "length:0xfffffff0:GET_ID",
                  "--share", share)
    contains(output, "get_id2 rw EIO error=0 ", "the call")
    # The digest of no bytes: nothing was copied to the caller's buffer.
    contains(output, "id=cbf29ce484222325\n", "the caller's buffer")
    contains(output, "status ro OK", "the call after it")


def test_a_failed_init_is_told_to_everyone(context):
    share = sev_ioctl(context)
    output = host(context, "/mnt/share/sev-ioctl platform_status pek_csr; dmesg | grep -E 'INIT failed|kvm_amd: SEV'",
                  "--fault", "status:0x3:INIT", "--share", share)
    contains(output, "status ro OK error=0", "/dev/sev answers")
    contains(output, "pek_csr rw EIO error=0x3", "and says why")
    contains(output, "SEV: INIT failed 0x0003 (INVALID_CONFIG), rc -5", "dmesg")
    contains(output, "kvm_amd: SEV disabled", "KVM is told the truth")
    contains(output, "kvm_amd: SEV-ES disabled", "KVM is told the truth")


def test_interrupts_for_nothing_and_garbage_are_lived_with(context):
    share = sev_ioctl(context)
    script = """
        for i in $(seq 20); do /mnt/share/sev-ioctl get_id2 || exit; done | grep -c 'get_id2 rw OK'
        /mnt/share/sev-ioctl pdh_gen pdh_gen | cut -d' ' -f1-4
        # A few may be late on a busy machine.
        dmesg | grep -c 'without its interrupt (8 so far)'"""
    output = host(context, script, "--fault", "early-irq", "--fault", "double-irq",
                  "--fault", "garbage:0xdeadbeef:PDH_GEN:1", "--share", share, status=1)
    equal(output, "20\npdh_gen rw EIO error=0xbeef\npdh_gen rw OK error=0\n0\n", "answers, and lost interrupts")


def test_a_firmware_that_has_lost_its_state_is_initialised_again(context):
    share = sev_ioctl(context)
    output = host(context, "/mnt/share/sev-ioctl pdh_gen pdh_gen platform_status",
                  "--fault", "state-loss:PDH_GEN:1", "--share", share)
    lines = output.splitlines()
    equal(lines[:2], ["pdh_gen rw EIO error=0x1", "pdh_gen rw OK error=0"], "answers")
    contains(lines[-1], " state=0 ", "whoever found it shut down left it so")


def test_many_callers_at_once(context):
    share = sev_ioctl(context)
    script = """
        device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
        for n in 1 2 3 4; do (for i in $(seq 20); do /mnt/share/sev-ioctl platform_status get_id2 pek_csr; done) >/tmp/$n & done
        sleep 1; echo $device >/sys/bus/pci/drivers/ccp/unbind; sleep 0.2; echo $device >/sys/bus/pci/drivers/ccp/bind
        wait; cat /tmp/[1-4] | sed 's/^ *//' | cut -d' ' -f1-3 | sort | uniq -c; /mnt/share/sev-ioctl platform_status"""
    output = host(context, script, "--share", share, "--smp", 4)
    contains(output, "pek_csr rw OK", "calls that succeeded")
    contains(output.splitlines()[-1], "status ro OK", "the end")
    for line in output.splitlines():
        words = line.split()
        if "open" not in words and not any(word in ("OK", "ENODEV") for word in words):
            raise Failure(f"an answer that is neither OK nor ENODEV: {line}")


def test_the_debug_kernel_has_nothing_to_say(context):
    """KASAN, lockdep, kmemleak and Rust's debug assertions over every ioctl, unbind, a timeout, and unload."""
    share = sev_ioctl(context)
    script = """
        device=$(basename /sys/bus/pci/drivers/ccp/0000:*)
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout
        /mnt/share/sev-ioctl pdh_gen platform_status >/dev/null; sleep 2; /mnt/share/sev-ioctl platform_status
        echo 100 >/sys/module/ccp/parameters/psp_cmd_timeout
        /mnt/share/sev-ioctl >/tmp/out || exit 1
        echo $device >/sys/bus/pci/drivers/ccp/unbind; echo $device >/sys/bus/pci/drivers/ccp/bind
        modprobe -r kvm-amd; modprobe -r ccp
        echo scan >/sys/kernel/debug/kmemleak; sleep 6; echo scan >/sys/kernel/debug/kmemleak
        cat /sys/kernel/debug/kmemleak
        [ -e /proc/lockdep ] && dmesg | grep -q KernelAddressSanitizer && echo checked"""
    # PDH_GEN answers late once: the timeout's path and the way back from it.
    output = host(context, script, "--share", share, "--mem", 2048, "--fault", "late:2000:PDH_GEN:1", kernel="debug")
    contains(output, "status ro OK", "after the late answer")
    contains(output, "\nchecked\n", "KASAN and lockdep are there")
    # The module is gone by then, so a report would not name its functions: any leak counts.
    if "unreferenced object" in output:
        raise Failure(f"kmemleak found something:\n{output}")
