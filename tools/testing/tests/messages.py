# SPDX-License-Identifier: GPL-2.0
"""Every fault that the lab can inject, and the very lines that users and administrators see of it."""

import re

from lab.clients import sev_ioctl
from lab.hosts import host
from lab.suites import TESTS, contains, equal

# What the tests boot; made before the first, which has no time for that.
KERNELS = ("kunit",)

# The driver's lines since the last time they were shown, without time and device.
LINES = r"""
    # On a busy machine any interrupt may come too late.
    lines() { all_lines | sed '/completed without its interrupt/d'; }
    all_lines() {
        dmesg -c | sed -n 's/^\[[^]]*\] ccp 0000:[^ ]* //p' | sed '/^firmware: failed to load/d; /^[a-z]* enabled$/d; s/ for [0-9]* s / for N s /'
    }
    call() { /mnt/share/sev-ioctl "$@" | sed 's/^ *//' | cut -d' ' -f1-4; }
    device=$(echo /sys/bus/pci/drivers/ccp/0000:*)
    lines >/dev/null
"""


# KVM does not initialise the platform; whoever needs it does.
LAZY = ("--module-param", "ccp.psp_init_on_probe=0")


def lines(context, script, *faults, status=0, options=()):
    """The output of a script that has the shell functions of LINES, as lines."""
    share = sev_ioctl(context)
    arguments = [word for fault in faults for word in ("--fault", fault)]
    return host(context, LINES + script, "--share", share, *options, *arguments, status=status).splitlines()


def test_a_lost_interrupt_costs_milliseconds(context):
    got = lines(context, "call pdh_gen; call platform_status; all_lines | sed -n '/PDH_GEN/s/ ([0-9]* so far)//p'", "late:20:PDH_GEN", "lost-irq:PDH_GEN")
    equal(got, ["pdh_gen rw OK error=0", "status ro OK error=0",
                "SEV: PDH_GEN completed without its interrupt"], "a lost interrupt")


def test_an_interrupt_that_is_late_costs_milliseconds(context):
    got = lines(context, "call pdh_gen; all_lines | sed -n '/PDH_GEN/s/ ([0-9]* so far)//p'; sleep 1; call get_id2; lines",
                "late:20:PDH_GEN", "late-irq:700:PDH_GEN")
    equal(got, ["pdh_gen rw OK error=0", "SEV: PDH_GEN completed without its interrupt", "get_id2 rw OK error=0"],
          "an answer in time, its interrupt when nobody waits any more")


def test_interrupts_that_are_late_early_double_or_for_nothing(context):
    got = lines(context, "call get_id2; call pdh_gen; lines", "late:300:GET_ID", "early-irq", "double-irq", "spurious-irq")
    equal(got, ["get_id2 rw OK error=0", "pdh_gen rw OK error=0"], "with all of them, and the log has nothing to say")


def test_a_stuck_psp_is_refused_and_comes_back_by_itself(context):
    got = lines(context, """
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; call platform_status >/dev/null
        call pdh_gen; lines
        call pek_csr; lines
        call pdh_gen; call pdh_gen; lines
        sleep 2.5; call pek_csr; lines""", "late:4000:PDH_GEN:1")
    equal(got, [
        "pdh_gen rw ETIMEDOUT error=0",
        "sev command 0x9 timed out, disabling PSP (PDH_GEN, no answer for 1000 ms)",
        "pek_csr rw EBUSY error=0x5a5a5a5a",
        "SEV: PEK_CSR not sent: the PSP has not answered PDH_GEN for N s (1 refused so far); it is used again as soon as it "
        "answers; else write 1 to sev_reset of its device, or power-cycle",
        "pdh_gen rw EBUSY error=0x5a5a5a5a",
        "pdh_gen rw EBUSY error=0x5a5a5a5a",
        "SEV: PDH_GEN not sent: the PSP has not answered PDH_GEN for N s (2 refused so far); it is used again as soon as it "
        "answers; else write 1 to sev_reset of its device, or power-cycle",
        "pek_csr rw OK error=0",
        "SEV: the PSP answered late and is back (PDH_GEN)",
    ], "from silence to the late answer")


# The firmware has crashed and started again: it does not know the command any more, and takes others.
FORGETFUL = """
    echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; call platform_status >/dev/null
    call pdh_gen; lines >/dev/null
    call platform_status
"""


def test_a_reset_request_brings_a_forgetful_psp_back(context):
    got = lines(context, FORGETFUL + "echo 1 >$device/sev_reset; lines; call pdh_gen; call pek_csr; lines", "forgotten:PDH_GEN:1")
    equal(got[0], "pdh_gen rw ETIMEDOUT error=0", "the forgotten command")
    equal(got[1], "status ro EBUSY error=0x5a5a5a5a", "the command after it")
    contains("\n".join(got), "SEV: reset: the PSP answers again\npdh_gen rw OK error=0\npek_csr rw OK error=0\n", "after the request")


def test_a_reset_gives_up_what_the_firmware_may_still_write_to(context):
    got = lines(context, FORGETFUL.replace("pdh_gen", "get_id2") + "echo 1 >$device/sev_reset; lines; call get_id2",
                "forgotten:GET_ID:1")
    # The command's page, and the 128 bytes for its answer.
    contains("\n".join(got), "SEV: reset: leaking 4224 bytes that an unanswered command may still write to\n"
             "SEV: reset: the PSP answers again\nget_id2 rw OK error=0", "after the request")


def test_unbind_and_bind_bring_a_forgetful_psp_back(context):
    got = lines(context, FORGETFUL + """lines >/dev/null
        echo ${device##*/} >/sys/bus/pci/drivers/ccp/unbind; echo ${device##*/} >/sys/bus/pci/drivers/ccp/bind
        lines | grep -v 'SEV firmware'; call pdh_gen; call pek_csr""", "forgotten:PDH_GEN:1")
    equal(got[-2:], ["pdh_gen rw OK error=0", "pek_csr rw OK error=0"], "after bind")


def test_a_reset_request_to_a_psp_that_stays_silent_fails(context):
    got = lines(context, """
        echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; echo 1 >/sys/module/ccp/parameters/psp_probe_timeout
        call platform_status >/dev/null; call pdh_gen; lines >/dev/null
        echo 1 >$device/sev_reset; lines; echo 0 >$device/sev_reset; call pek_csr""", "no-response:PDH_GEN:1")
    equal(got[1:], [
        "SEV: PLATFORM_STATUS not sent: the PSP has not answered PDH_GEN for N s (1 refused so far); it is used again as soon "
        "as it answers; else write 1 to sev_reset of its device, or power-cycle",
        "sev command 0x4 timed out, disabling PSP (PLATFORM_STATUS, no answer for 1000 ms)",
        "SEV: reset: no success (no answer), rc -110",
        "pek_csr rw EBUSY error=0xffffffff",
    ], "a reset in vain")


def test_a_device_that_vanishes_in_mid_flight(context):
    got = lines(context, """call pdh_gen; call platform_status; lines
        /bin/echo 1 2>&1 >$device/sev_reset | grep -o 'No such device'
        echo 1 >$device/remove; ls /dev/sev /sys/kernel/debug/ccp/ 2>&1""", "vanish:PDH_GEN",
                status=2)
    equal(got[:3], ["pdh_gen rw ENODEV error=0x5a5a5a5a", "status ro ENODEV error=0x5a5a5a5a", "No such device"], "answers")
    contains("\n".join(got), "cannot access '/dev/sev'", "after its removal")


def test_garbage_is_a_status_like_any_other(context):
    got = lines(context, "call pdh_gen; call pdh_gen; call platform_status", "garbage:0xdeadbeef:PDH_GEN:1")
    equal(got, ["pdh_gen rw EIO error=0xbeef", "pdh_gen rw OK error=0", "status ro OK error=0"],
          "garbage in the response register")


def test_a_response_of_all_ones_is_a_device_that_is_gone(context):
    gone = ["pdh_gen rw ENODEV error=0x5a5a5a5a", "status ro ENODEV error=0x5a5a5a5a"]
    got = lines(context, """
        call pdh_gen; call platform_status; lines; echo 1 >$device/sev_reset; lines; call pdh_gen
        call get_id2; call platform_status; lines
        for way in unbind bind; do echo ${device##*/} >/sys/bus/pci/drivers/ccp/$way; done; lines >/dev/null
        call get_id2""", "garbage:0xffffffff:PDH_GEN:1", "garbage:0xffffffff:GET_ID:1")
    equal(got, [*gone, "SEV: reset: the PSP answers again", "pdh_gen rw OK error=0",
                gone[0].replace("pdh_gen", "get_id2"), gone[1], "get_id2 rw OK error=0"],
          "answers, of which the log has nothing; after a reset, and after bind")


def test_a_slow_command_is_waited_for_as_long_as_the_parameter_says(context):
    # The fault that comes last wins while it lasts: 100 ms, then 200 s.
    got = lines(context, """
        call pdh_gen; lines; echo 1 >/sys/module/ccp/parameters/psp_cmd_timeout; call pdh_gen; lines""",
                "slow:10000:PDH_GEN", "slow:5:PDH_GEN:1")
    equal(got, ["pdh_gen rw OK error=0", "pdh_gen rw ETIMEDOUT error=0",
                "sev command 0x9 timed out, disabling PSP (PDH_GEN, no answer for 1000 ms)"], "slow, and too slow")


def test_parameters_are_all_to_be_seen_and_have_a_range(context):
    got = lines(context, """
        cd /sys/module/ccp/parameters; stat -c '%n %a' *
        for value in 0 -1 86401 x 86400 1; do
            for name in psp_cmd_timeout psp_probe_timeout; do echo $value >$name && echo $name $value; done
        done 2>/dev/null
        grep . *; cd /; rmmod kvm-amd; rmmod ccp
        for value in 0 -1 86401; do modprobe ccp psp_cmd_timeout=$value; echo $?; modprobe ccp psp_probe_timeout=$value; echo $?; done 2>/dev/null
        modprobe ccp psp_cmd_timeout=86400 psp_probe_timeout=1 psp_init_on_probe=0 psp_poll=1 init_ex_path=/var/lib/sev-nv/nv
        cd /sys/module/ccp/parameters; grep . *""")
    equal(got, [
        "init_ex_path 444", "psp_cmd_timeout 644", "psp_init_on_probe 444", "psp_poll 444", "psp_probe_timeout 644",
        "psp_cmd_timeout 86400", "psp_probe_timeout 86400", "psp_cmd_timeout 1", "psp_probe_timeout 1",
        "init_ex_path:(null)", "psp_cmd_timeout:1", "psp_init_on_probe:Y", "psp_poll:N", "psp_probe_timeout:1",
        *["1"] * 6,
        "init_ex_path:/var/lib/sev-nv/nv", "psp_cmd_timeout:86400", "psp_init_on_probe:N", "psp_poll:Y", "psp_probe_timeout:1",
    ], "files, what was accepted, values; and when the module is loaded")


def test_lengths_beyond_the_buffer_are_refused(context):
    got = lines(context, "call pek_csr; call get_id2; call get_id2; lines; grep -h ^GET_ID.*malformed /sys/kernel/debug/ccp/*/report",
                "length:0x7fffffff")
    equal(got[:3], ["pek_csr rw EIO error=0", "get_id2 rw EIO error=0", "get_id2 rw EIO error=0"], "answers")
    what = "(malformed answer: Length { offered: 128, claimed: 2147483647 }), rc -5"
    equal(got[-2:], [f"SEV: GET_ID failed {what}: the firmware is broken or hostile: update it", f"GET_ID {what} 2"],
          "the log and the report")


def test_lost_state_is_noticed(context):
    got = lines(context, "call pdh_gen; call pdh_gen; call platform_status; lines", "state-loss:PDH_GEN:1")
    equal(got, ["pdh_gen rw EIO error=0x1", "pdh_gen rw OK error=0", "status ro OK error=0",
                "SEV API:1.55 build:21"], "answers, and the platform is initialised again for the second")


# What INIT was seen to be refused with, and what our line says. Counted faults run out, so the first INIT meets the last.
REFUSALS = {
    "0x0001 (INVALID_PLATFORM_STATE)": "another kernel or an earlier failure left the platform in this state",
    "0x0003 (INVALID_CONFIG)": "the BIOS has memory encryption or SNP set up in a way this firmware does not accept",
    "0x000e (WBINVD_REQUIRED)": "old firmware on several sockets is known for this: update it",
    "0x0013 (HWERROR_PLATFORM)": "enable SMEE in the BIOS, and install a SEV firmware file for this processor",
    "0x8003": "the PSP runs no usable SEV firmware: update the BIOS",
    "0x8004": "the PSP runs no usable SEV firmware: update the BIOS",
}


def test_an_init_that_is_refused_says_why_and_what_to_do(context):
    faults = [f"status:{text.split()[0]}:INIT:{count}" for count, text in reversed(list(enumerate(REFUSALS, 1)))]
    got = lines(context, f"""
        for i in $(seq {len(REFUSALS)}); do call pek_csr; lines; done
        call pek_csr; sed -n '/^first-failure/p;/^last-failure/p' /sys/kernel/debug/ccp/*/report""",
                *faults, options=LAZY)
    answers = [line for line in got if line.startswith("pek_csr")]
    equal(answers, [f"pek_csr rw EIO error={int(text.split()[0], 16):#x}" for text in REFUSALS] + ["pek_csr rw OK error=0"],
          "what a caller sees")
    said = [line for line in got if "INIT failed" in line]
    for line, (status, hint) in zip(said, REFUSALS.items()):
        contains(line, f"SEV: INIT failed {status}, rc -5: {hint}", "the log")
    equal(len(said), len(REFUSALS), "lines")
    contains(got[-2], "first-failure: INIT 0x0001 (INVALID_PLATFORM_STATE), rc -5, at ", "the report")
    contains(got[-1], "last-failure: INIT 0x8004, rc -5, at ", "the report")


def test_what_fails_again_and_again_is_said_ever_more_rarely(context):
    got = lines(context, "for i in $(seq 20); do call pek_csr; done >/dev/null; lines | grep -c 'INIT failed'", "status:0x3:INIT")
    # The first was KVM's at load; then the 2nd, 4th, 8th and 16th.
    equal(got, ["4"], "lines for 20 failures")


def test_secure_data_that_is_invalid_is_retried_once(context):
    got = lines(context, "call pdh_gen; lines; call pdh_gen; lines", "status:SECURE_DATA_INVALID:INIT:3", options=LAZY)
    retrying = "SEV: retrying INIT command because of SECURE_DATA_INVALID error. Retrying once to reset PSP SEV state."
    equal(got, [
        "pdh_gen rw EIO error=0x18", retrying,
        "SEV: INIT failed 0x0018 (SECURE_DATA_INVALID), rc -5: the firmware has discarded its keys: certificates that others hold "
        "of this platform are void",
        "pdh_gen rw OK error=0", retrying, "SEV API:1.55 build:21",
    ], "twice in vain, then with success")


def test_every_fault_of_the_lab_is_tested(context):
    """The names that `--fault help` lists are all in this file, or where their subject is."""
    listed = re.findall(r"^    for example ([a-z-]+)", context.lab("run", "--fault", "help").stdout.decode(), re.M)
    texts = "".join(suite.read_text() for suite in sorted(TESTS.glob("*.py")))
    equal([name for name in listed if f'"{name}' not in texts], [], "faults that no test injects")
