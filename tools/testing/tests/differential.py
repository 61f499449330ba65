# SPDX-License-Identifier: GPL-2.0
"""One client, two drivers: what sev-ioctl prints must be equal for upstream's ccp and ours.

Both runs of a comparison use copies of one emulated chip, so keys and certificates are equal too until new ones are made.
"""

import json
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from lab import programs
from lab.clients import sev_ioctl, sev_kvm
from lab.suites import Failure, contains, equal, watched

# What may differ, and why; Documentation/decisions.rst has the long form. Each entry has faults of the emulated PSP, a
# script that meets them, and what differs: a line that upstream prints, the line that we print instead, the reason. A
# test proves that both still do.
INTENDED = (
    (("lost-irq:GET_ID:1",), "get_id2 platform_status", (
        ("get_id2 rw ETIMEDOUT error=0 ", "get_id2 rw OK error=0 ", "a lost interrupt does not kill the PSP"),
        ("  status ro EBUSY error=0x5a5a5a5a", "  status ro OK error=0 ", "nor the commands after it"),
    )),
    (("late:3000:GET_ID:1",), "get_id2 wait platform_status", (
        ("  status ro EBUSY error=0x5a5a5a5a", "  status ro OK error=0 ", "the late answer brings the PSP back"),
    )),
)

# Faults that both drivers meet in the same way. Those of one entry share a VM.
ALIKE = (
    (("status:0x13:PDH_GEN", "status:0x8004:GET_ID:2", "late:300:PDH_CERT_EXPORT", "status:0x1:SHUTDOWN:1",
      "no-response:PEK_CSR"),
     "platform_status pdh_gen get_id2 get_id2 get_id2 pdh_cert_export factory_reset platform_status factory_reset "
     "platform_status pdh_gen pek_csr platform_status pek_csr pdh_gen get_id2 factory_reset"),
    (("status:0x3:INIT",), "platform_status pek_csr pdh_cert_export pek_gen platform_status"),
    (("status:0x18:INIT:1", "status:0xf:DF_FLUSH:1"), "platform_status pek_csr platform_status"),
    (("no-response:INIT",), "platform_status pek_csr platform_status"),
)

NV = ("--module-param", "ccp.init_ex_path=/var/lib/sev-nv/nv")
IMPATIENT = ("--module-param", "ccp.psp_cmd_timeout=1", "--module-param", "ccp.psp_probe_timeout=1")
AGAIN = "rmmod kvm-amd; rmmod ccp; mkdir -p /lib/firmware/amd; cp /mnt/share/new /lib/firmware/amd/sev.fw; modprobe ccp; modprobe kvm-amd"
RETRYING = "SEV: retrying INIT command because of SECURE_DATA_INVALID error. Retrying once to reset PSP SEV state."
VERSION = "SEV firmware 1.55 build 21"
NOT_WRITTEN = ("SEV: the command is done, but /var/lib/sev-nv/nv could not be written, error -28: what the firmware keeps there lives in "
               "memory until it can be")
SILENT = ("SEV: {} not sent: the PSP has not answered {} for 1 s ({} refused so far); it is used again as soon as it answers; else write 1 "
          "to sev_reset of its device, or power-cycle")
UNSAFE = "SEV: failed to SHUTDOWN 0x0014 (HWERROR_UNSAFE), rc -5: power-cycle the machine before it is trusted with guests"

# What the log has of the drivers' lines and KVM's: options and a script, the lines that only upstream has, those that only ours
# has, and why. All others are the same, word for word. VERSION is there before INIT, also if that fails.
LOG = (
    ((), "true", [], [VERSION], "the version"),
    (("--model", "naples"), "true", ["could not enable MSI-X (-22), trying MSI"], ["SEV firmware 0.17 build 48"],
     "a PSP without MSI-X is nothing to worry about"),
    (("--fault", "all-ones"), "true", [], [], "a BIOS that hides the PSP"),
    (("--fault", "status:0x3:INIT"), "true", ["SEV: INIT failed 0x3, rc -5"],
     [VERSION, "SEV: INIT failed 0x0003 (INVALID_CONFIG), rc -5: the BIOS has memory encryption or SNP set up in a way this firmware does "
      "not accept: check SMEE, SNP and the minimum SEV-ES ASID there, and update BIOS and SEV firmware together"], "name and hint"),
    (("--fault", "status:0x18:INIT:1"), "true", [], [VERSION], "the retry"),
    ((*IMPATIENT, "--fault", "no-response:GET_ID"), "/mnt/share/sev-ioctl get_id2 pdh_gen",
     ["sev command 0xc timed out, disabling PSP"],
     [VERSION, "sev command 0xc timed out, disabling PSP (GET_ID, no answer for 1000 ms)", SILENT.format("PDH_GEN", "GET_ID", 1)],
     "name and time, and what does not go on"),
    ((*IMPATIENT, "--fault", "no-response:PLATFORM_STATUS"), "true",
     ["sev command 0x4 timed out, disabling PSP", "SEV: failed to get status. Error: 0x0"],
     ["sev command 0x4 timed out, disabling PSP (PLATFORM_STATUS, no answer for 1000 ms)",
      "SEV: failed to get status. Error: (no answer), rc -110: it is used again as soon as it answers; else write 1 to sev_reset of its "
      "device, or power-cycle",
      *(SILENT.format("PLATFORM_STATUS", "PLATFORM_STATUS", count) for count in (1, 2))], "no status that nobody gave, and a way out"),
    (NV, "true", [RETRYING], [VERSION], "a file that is not there is erased storage, not zeros"),
    ((*NV, "--fault", "nv-full"), "/mnt/share/sev-ioctl pdh_gen",
     [RETRYING, "SEV: failed to write 32768 bytes to non volatile memory area, ret -28", "SEV: INIT_EX failed 0x0, rc -5",
      "kvm_amd: SEV disabled (ASIDs 100 - 509)", "kvm_amd: SEV-ES disabled (ASIDs 1 - 99)", "SEV: INIT_EX failed 0x1, rc -5"],
     [VERSION, "SEV API:1.55 build:21", NOT_WRITTEN, "kvm_amd: SEV enabled (ASIDs 100 - 509)", "kvm_amd: SEV-ES enabled (ASIDs 1 - 99)",
      NOT_WRITTEN], "INIT_EX is done, whatever the file system says"),
    ((), AGAIN, [], [VERSION, VERSION], "an update"),
    (("--fault", "status:BAD_SIGNATURE:DOWNLOAD_FIRMWARE"), AGAIN, [],
     [VERSION, VERSION, "SEV: firmware not updated: DOWNLOAD_FIRMWARE failed 0x000a (BAD_SIGNATURE), rc -5: a damaged file, or one for "
      "another processor"], "an update that is refused (upstream: at debug level)"),
    (("--fault", "status:0x14:SHUTDOWN"), "rmmod kvm-amd; rmmod ccp", ["SEV: failed to SHUTDOWN error 0x14, rc -5"] * 3,
     [VERSION, UNSAFE, UNSAFE, "SEV: leaking 1048576 bytes that the firmware did not give back"],
     "name and hint, one try each for KVM and for us; and the TMR is not freed"),
)

KERNELS = ("kunit",)

# What boots in a third of the time; the whole comparison of ioctls is on Debian's kernel with two CPUs.
QUICK = ("--kernel", "kunit", "--smp", "1")

# SEV-API, table "Command Identifiers": platform commands have lower numbers.
FIRST_OF_GUESTS = 0x20

_chips = {}
_making = threading.Lock()


def chip(context, model):
    """An emulated chip that has been initialised once, so that its keys exist; the suite's tests share it."""
    with _making:
        if model not in _chips:
            state = context.directory.parent / f"{model}-chip"
            result = context.lab("run", "--driver", "upstream", "--model", model, "--state", state, *QUICK, "--", "true")
            equal(result.returncode, 0, f"the run that makes a chip: {result.stderr}")
            _chips[model] = state
    return _chips[model]


def both(context, share, state, model, script, *options):
    """Run a script under both drivers on copies of the chip; the lines each printed."""
    def one(driver):
        copy = context.directory / f"{driver}-chip"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(state, copy)
        result = context.lab("run", "--driver", driver, "--model", model, "--state", copy, "--share", share,
                             "--trace", _trace(context, driver), *options, "--", "sh", "-c", script)
        if result.returncode:
            raise Failure(f"{driver}: status {result.returncode}\n{result.stderr.decode()}")
        return result.stdout.decode().splitlines()

    with ThreadPoolExecutor(2) as pool:
        return pool.map(one, ("upstream", "rust"))


def _trace(context, driver):
    return context.directory / f"{driver}.trace"


def commands(context, driver):
    """The commands of the last run with that driver that have to do with guests, and their statuses."""
    traced = [json.loads(line) for line in _trace(context, driver).read_text().splitlines()]
    said = [f"{line['name']} {line['status_name']}" for line in traced
            if line["event"] == "command" and (line["id"] >= FIRST_OF_GUESTS or line["name"] == "DF_FLUSH")]
    # KVM's commands for the parts of a range are as many as it has physically.
    return [line for before, line in zip([None] + said, said)
            if not (line == before and line.startswith("LAUNCH_UPDATE_DATA "))]


def same(upstream, rust):
    """Fail unless both drivers printed the same, which must be something."""
    if len(upstream) < 2:
        raise Failure(f"too little to compare: {upstream}")
    differences = [f"upstream: {theirs}\nrust:     {ours}" for theirs, ours in zip(upstream, rust) if ours != theirs]
    if len(upstream) != len(rust):
        differences.append(f"upstream printed {len(upstream)} lines, rust {len(rust)}")
    if differences:
        raise Failure("\n".join(differences))


def _every_ioctl(context, model, *options):
    share = sev_ioctl(context)
    upstream, rust = both(context, share, chip(context, model), model, "/mnt/share/sev-ioctl", *options)
    same(upstream, rust)
    if len(upstream) < 200:
        raise Failure(f"only {len(upstream)} lines: sev-ioctl did not run to its end")


def test_every_ioctl_with_good_and_bad_arguments_on_milan(context):
    _every_ioctl(context, "milan")


def test_every_ioctl_with_good_and_bad_arguments_on_naples(context):
    _every_ioctl(context, "naples", *QUICK)


def test_every_ioctl_with_good_and_bad_arguments_on_turin(context):
    _every_ioctl(context, "turin", *QUICK)


def _every_kvm_command(context, model, *options):
    share, state = sev_kvm(context), chip(context, model)
    shutil.copytree(state / "certs", share / "certs")
    upstream, rust = both(context, share, state, model, watched("/mnt/share/sev-kvm every /mnt/share/certs"), *options)
    same(upstream, rust)
    same(commands(context, "upstream"), commands(context, "rust"))
    return rust


def test_every_command_of_the_stock_kvm_with_good_and_bad_arguments(context):
    """What KVM answers, and what it made ccp.ko say to the PSP, down to how guests end."""
    lines = _every_kvm_command(context, "milan", *QUICK)
    for line in ("sev: launch_start without /dev/sev EBADF error=0x5a5a5a5a", "sev-es: update_vmsa OK error=0",
                 "sev with an owner: secret OK error=0", "sev nodbg: decrypt one byte EIO error=0x7",
                 "sent: receive_finish OK error=0", "shared sev: mirror OK", "shared sev-es: move OK",
                 "shared sev-es: guests 1"):
        contains(lines, line, "what sev-kvm printed")
    counts = {line for line in lines if line.endswith(" guests 0")}
    equal(len(counts), len({line.split(":")[0] for line in lines if " guests " in line}), "plays that left no guest behind")
    told = {line.split()[0] for line in commands(context, "rust")}
    equal(told, {"DF_FLUSH", "LAUNCH_START", "LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA", "LAUNCH_MEASURE", "LAUNCH_SECRET",
                 "LAUNCH_FINISH", "ATTESTATION", "ACTIVATE", "DEACTIVATE", "DECOMMISSION", "GUEST_STATUS", "DBG_DECRYPT",
                 "DBG_ENCRYPT", "SEND_START", "SEND_UPDATE_DATA", "SEND_FINISH", "SEND_CANCEL", "RECEIVE_START",
                 "RECEIVE_UPDATE_DATA", "RECEIVE_FINISH"}, "commands that the PSP was told")


def test_the_stock_kvm_on_naples(context):
    """No SEV-ES, no ATTESTATION, no SEND_CANCEL: what is missing must look the same, too."""
    lines = _every_kvm_command(context, "naples", *QUICK)
    for line in ("sev-es: vm EINVAL", "sev: report EIO error=0x11", "sent: send_cancel EIO error=0x11"):
        contains(lines, line, "what sev-kvm printed")


def _with_faults(context, share, state, faults, commands):
    script = "".join("sleep 3\n" if word == "wait" else f"/mnt/share/sev-ioctl {word}\n" for word in commands.split())
    script += "dmesg | sed -n 's/.*kvm_amd: SEV/kvm_amd: SEV/p'"
    options = [word for fault in faults for word in ("--fault", fault)]
    # One second is enough for an emulator, and 100 are too many for a test.
    return both(context, share, state, "milan", script, *QUICK, "--append", "ccp.psp_cmd_timeout=1", *options)


def test_faults_that_both_meet_alike(context):
    share, state = sev_ioctl(context), chip(context, "milan")
    failures = []
    for faults, commands in ALIKE:
        try:
            same(*_with_faults(context, share, state, faults, commands))
        except Failure as failure:
            failures.append(f"{faults}:\n{failure}")
    if failures:
        raise Failure("\n".join(failures))


def test_intended_differences_are_still_there(context):
    share, state = sev_ioctl(context), chip(context, "milan")
    for faults, commands, differences in INTENDED:
        upstream, rust = _with_faults(context, share, state, faults, commands)
        for theirs, ours, why in differences:
            contains("\n".join(upstream) + "\n", theirs, f"upstream with {faults} ({why})")
            contains("\n".join(rust) + "\n", ours, f"rust with {faults} ({why})")


def test_the_log_differs_in_what_is_listed_only(context):
    share, failures = sev_ioctl(context), []
    context.output(programs.make_firmware(context.root), "milan", "1.56.1", share / "new", binds=[(share, share, False)])
    script = r"{} >/dev/null 2>&1; dmesg | sed -n 's/^\[[^]]*\] \(ccp 0000:[^ ]* \|\(kvm_amd: SEV\)\)/\2/p' | grep -v ' failed to load '"
    for options, what, *differences, why in LOG:
        model = options[1] if options[:1] == ("--model",) else "milan"
        upstream, rust = map(Counter, both(context, share, chip(context, model), model, script.format(what), *QUICK, *options))
        found = [sorted((one - other).elements()) for one, other in ((upstream, rust), (rust, upstream))]
        if found != [sorted(lines) for lines in differences]:
            failures.append(f"{options} {what} ({why}): only upstream and only ours: {found}")
    if failures:
        raise Failure("\n".join(failures))


def test_a_difference_would_be_seen(context):
    """The comparison itself: one changed character in one line is a failure."""
    lines = ["a rw OK error=0", "b rw OK error=0x4"]
    same(lines, list(lines))
    for changed in (["a rw OK error=0", "b rw OK error=0x5"], lines[:1], []):
        try:
            same(lines, changed)
        except Failure:
            continue
        raise Failure(f"{changed} was taken for {lines}")


def test_mmio_accesses_per_platform_status(context):
    """Counted by the emulator, from one command word to the next; ours must not need more than upstream's."""
    share = sev_ioctl(context)
    counts = {}
    for driver in ("upstream", "rust"):
        trace = context.directory / f"{driver}.trace"
        script = "for i in 1 2 3 4 5 6 7 8 9 10; do /mnt/share/sev-ioctl platform_status; done"
        result = context.lab("run", "--driver", driver, "--trace", trace, "--share", share, *QUICK, "--", "sh", "-c", script)
        equal(result.returncode, 0, f"status with {driver}")
        commands = [json.loads(line) for line in trace.read_text().splitlines()]
        rounds = [line["reads"] + line["writes"] for line in commands
                  if line["event"] == "command" and line["name"] == "PLATFORM_STATUS"][-9:]
        # Each of the last nine follows another PLATFORM_STATUS, so its count is one whole round.
        equal(len(set(rounds)), 1, f"different counts with {driver}: {rounds}")
        counts[driver] = rounds[0]
    if counts["rust"] > counts["upstream"]:
        raise Failure(f"MMIO accesses per PLATFORM_STATUS: {counts}")
    print(f"     MMIO accesses per PLATFORM_STATUS ioctl: upstream {counts['upstream']}, rust {counts['rust']}", flush=True)
