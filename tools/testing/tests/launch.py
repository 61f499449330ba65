# SPDX-License-Identifier: GPL-2.0
"""Guests with encrypted memory, launched through the stock KVM by samples/sev-launch, on the emulated PSP."""

import re

from lab.suites import Failure, contains, equal, watched

KERNELS = ("kunit",)

# What boots in a third of the time, on one CPU; what administrators see is tested on Debian's, with two.
QUICK = "kunit"

CERTS = "--certs /mnt/share/psp/certs"

NODBG, NOKS, ES, NOSEND, DOMAIN, SEV = (1 << bit for bit in range(6))

REFUSED = "Input/output error (os error 5), firmware status"
STEP = re.compile(r"^   (host|owner) {2,3}(\S.{27})", re.MULTILINE)
KEY = re.compile(r"its SHA-256 is ([0-9a-f]{32})")


def start(context, script, *options, share=None, psp="psp", kernel=QUICK):
    """Start a script in a host whose PSP's state lies in the directory that it shares."""
    share = share or context.directory
    processors = ("--smp", "1") if kernel == QUICK else ()
    return context.start("run", "--kernel", kernel, *processors, *options, "--share", share, "--state", share / psp,
                         "--", "sh", "-c", watched(script))


def finish(process, status=0):
    """What a host printed."""
    output, errors = (stream.decode() for stream in process.communicate())
    equal(process.returncode, status, f"status, with {output}\n{errors}")
    return output


def run(context, script, *options, **host):
    """Run a script in a host to its end; what it printed."""
    return finish(start(context, script, *options, **host))


def keys(output):
    """The disk keys that were mentioned, by their SHA-256."""
    return KEY.findall(output)


def steps(output):
    """What host and owner did, without results."""
    return [(who, what.strip()) for who, what in STEP.findall(output)]


LAUNCH = [
    ("host", "shows its certificates"), ("owner", "checks the certificates"), ("owner", "opens a session"),
    ("host", "LAUNCH_START"), ("host", "LAUNCH_UPDATE_DATA"), ("host", "LAUNCH_MEASURE"),
    ("owner", "compares the measurement"), ("owner", "encrypts the disk key"), ("host", "LAUNCH_SECRET"),
    ("host", "LAUNCH_FINISH"), ("host", "GET_ATTESTATION_REPORT"), ("owner", "checks the report"),
    ("host", "looks for the disk key"), ("host", "DBG_DECRYPT"),
]


def check_launch(output):
    """Fail unless a guest that may not be debugged was launched, attested, and kept its key."""
    equal(steps(output), LAUNCH, "the steps")
    contains(output, "state RUNNING, policy 0x3", "the guest")
    contains(output, f"refused: KVM_SEV_DBG_DECRYPT: {REFUSED} 0x7 POLICY_FAILURE", "the attempt to see the key")


def test_a_guest_is_launched_attested_and_keeps_its_secret(context):
    check_launch(run(context, f"sev-launch launch {CERTS}"))


def test_the_same_works_under_upstreams_driver(context):
    check_launch(run(context, f"sev-launch launch {CERTS}", "--driver", "upstream"))


def test_every_models_firmware_launches_guests(context):
    # Milan has the other tests.
    for model in ("naples", "rome", "genoa", "turin"):
        share = context.directory / model
        share.mkdir()
        output = run(context, f"sev-launch launch {CERTS}", "--model", model, share=share)
        if model == "naples":
            equal(steps(output), [step for step in LAUNCH if step[1] != "checks the report"], "the steps")
            contains(output, "this firmware is too old for it", "the report")
        else:
            check_launch(output)


def test_sevctl_computes_what_the_firmware_measures(context):
    script = f"""
        sev-launch launch {CERTS} --owner sevctl --policy {NODBG | NOKS} &&
        sev-launch launch {CERTS} --owner sevctl --policy {NODBG | NOKS | ES}"""
    output = run(context, script, kernel="debian")
    sevctl = [("owner", f"sevctl {name}") for name in ("verify", "session", "measurement build", "secret build")]
    plain = LAUNCH[:1] + sevctl[:2] + LAUNCH[3:6] + sevctl[2:] + LAUNCH[8:]
    encrypted_state = plain[:5] + [("host", "LAUNCH_UPDATE_VMSA")] + plain[5:]
    equal(steps(output), plain + encrypted_state, "the steps")
    equal(output.count("equal to the byte"), 2, "equal measurements")


def test_registers_are_measured_under_sev_es(context):
    # The registers are those that Debian's kernel starts with: CR4.MCE depends on the host's configuration.
    output = run(context, f"sev-launch launch {CERTS} --policy {NODBG | ES}", kernel="debian")
    equal(steps(output), LAUNCH[:5] + [("host", "LAUNCH_UPDATE_VMSA")] + LAUNCH[5:], "the steps")
    contains(output, "state RUNNING, policy 0x5", "the guest")


def test_the_host_sees_ciphertext_and_debugging_the_key(context):
    output = run(context, f"sev-launch launch {CERTS} --policy 0")
    before, after = re.findall(r"([0-9a-f]{32})\.\.\. (?:before|after)", output)
    equal(before, "be2010ac84c07406baf803eeebf5f4eb", "the guest's program before it is encrypted")
    if after == before:
        raise Failure("the guest's program is not encrypted")
    given, decrypted = keys(output)
    equal(decrypted, given, "the key that DBG_DECRYPT shows")


def test_a_cheating_host_gets_nowhere(context):
    refusals = {
        "chain": "the owner refuses the platform: the PEK is not signed by the CEK",
        "session": f"KVM_SEV_LAUNCH_START: {REFUSED} 0xb BAD_MEASUREMENT",
        "policy": f"KVM_SEV_LAUNCH_START: {REFUSED} 0xb BAD_MEASUREMENT",
        "image": "the owner keeps the secret: this is not my image under my policy",
        "secret": f"KVM_SEV_LAUNCH_SECRET: {REFUSED} 0xb BAD_MEASUREMENT",
        "report": "the owner does not believe the report: the report is not signed by the platform's PEK",
    }
    script = f"for cheat in {' '.join(refusals)}; do sev-launch launch {CERTS} --cheat $cheat 2>&1; echo $cheat $?; done"
    output = run(context, script)
    for cheat, refusal in refusals.items():
        contains(output, f"\n{cheat} 1\n", "the status")
        story, output = output.split(f"{cheat} 1\n", 1)
        contains(story, f"sev-launch: {refusal}", cheat)
        if "state RUNNING" in story and cheat != "report":
            raise Failure(f"{cheat}: the guest runs\n{story}")


def test_the_firmware_forgets_guests_whose_program_is_gone(context):
    script = f"""
        for i in 1 2 3; do sev-launch launch {CERTS} >/dev/null || exit; done
        mkdir /tmp/nobody
        sev-launch send {CERTS} --policy {SEV} --exchange /tmp/nobody --patience 100 >/tmp/out &
        while kill -0 $! && ! grep -q RUNNING /tmp/out; do sleep 0.1; done
        sevctl show guests; kill -9 $!; wait; sevctl show guests"""
    equal(run(context, script), "1\n0\n", "guests while the program runs, and after it was killed")


def test_a_guest_moves_to_another_host_with_its_secret(context):
    for policy in (SEV, SEV | NODBG):
        exchange = f"--exchange /mnt/share/{policy} --patience 300"
        (context.directory / str(policy)).mkdir()
        receiver = start(context, f"sev-launch receive --certs /mnt/share/other/certs {exchange}", psp="other")
        sent = run(context, f"sev-launch send {CERTS} --policy {policy} {exchange}")
        received = finish(receiver)
        contains(sent, f"state SENT, policy {policy:#x}", "the guest on the first host")
        contains(received, f"state RUNNING, policy {policy:#x}", "the guest on the second host")
        if policy & NODBG:
            contains(received, f"refused: KVM_SEV_DBG_DECRYPT: {REFUSED} 0x7 POLICY_FAILURE", "the attempt to see its key")
        else:
            equal(keys(received), keys(sent), "the guest's key on both hosts")


def test_a_guest_does_not_move_against_its_policy_or_changed(context):
    # One host plays both: its own PDH is as good a target as another's.
    attempts = {
        f"--policy {NOSEND}": f"KVM_SEV_SEND_START: {REFUSED} 0x7 POLICY_FAILURE",
        f"--policy {SEV} --cheat receiver": f"KVM_SEV_SEND_START: {REFUSED} 0xa BAD_SIGNATURE",
        f"--policy {ES}": "KVM has no command to send the registers of a SEV-ES guest",
        f"--policy {SEV} --cheat packet": f"KVM_SEV_RECEIVE_UPDATE_DATA: {REFUSED} 0xb BAD_MEASUREMENT",
    }
    script = "".join(f"""
        rm -rf /tmp/exchange; mkdir /tmp/exchange
        sev-launch receive {CERTS} --exchange /tmp/exchange >/dev/null 2>/tmp/receiver &
        sev-launch send {CERTS} --exchange /tmp/exchange {options} 2>&1 >/dev/null || kill $!
        wait; cat /tmp/receiver""" for options in attempts)
    lines = run(context, script, kernel="debian").splitlines()
    equal(len(lines), len(attempts), f"one refusal each, in {lines}")
    for line, (options, refusal) in zip(lines, attempts.items()):
        contains(line, f"sev-launch: {refusal}", options)


def test_errors_name_command_errno_and_status(context):
    faults = ("--fault", "status:0x3:PDH_CERT_EXPORT:1", "--fault", "status:0x17:LAUNCH_FINISH")
    script = f"for i in 1 2; do sev-launch launch {CERTS} 2>&1 >/dev/null; done; dmesg | grep -o 'SEV: LAUNCH.*'"
    lines = finish(start(context, script, *faults))
    contains(lines, f"sev-launch: PDH_CERT_EXPORT: {REFUSED} 0x3 INVALID_CONFIG\n"
             f"sev-launch: KVM_SEV_LAUNCH_FINISH: {REFUSED} 0x17 RESOURCE_LIMIT\n", "two errors")
    said = lines.splitlines()[2:]
    if len(said) != 1 or not re.fullmatch(r"SEV: LAUNCH_FINISH of guest 1 \(ASID \d+\) failed 0x0017 \(RESOURCE_LIMIT\), rc -5", said[0]):
        raise Failure(f"the log has which guest it was: {said}")


def test_what_is_not_a_guest_is_not_received(context):
    script = f"""
        mkdir /tmp/exchange; head -c 5000 /dev/urandom >/tmp/exchange/guest
        sev-launch receive {CERTS} --exchange /tmp/exchange 2>&1 >/dev/null
        rm /tmp/exchange/guest
        sev-launch receive {CERTS} --exchange /tmp/exchange --patience 1 2>&1 >/dev/null"""
    contains(finish(start(context, script), 1), "sev-launch: /tmp/exchange/guest is not a guest: it does not begin with "
             "SEVGUEST\nsev-launch: /tmp/exchange/guest did not appear within 1 s\n", "two refusals")
