# SPDX-License-Identifier: GPL-2.0
"""Reports and keys in a SEV guest: the guest device, and snpguest on top of it. The firmware is the emulated one, which a
transport for the lab reaches."""

import hashlib
import json
import re
import shutil

from lab.paths import CHECKOUT
from lab.suites import contains, equal, watched

KERNELS = ("kunit", "debian")
LAB = "virtio_sev_shim.lab_transport=1"
GUEST = ("run", "--role", "guest", "--module-param", LAB)
QUICK = (*GUEST, "--kernel", "kunit", "--smp", "1")
UNTOUCHED = "untouched"


def inside(context, script, *options, status=0):
    """What a script prints in a VM in which the kernel has nothing to complain about."""
    share = context.directory / "share"
    share.mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / "tools/testing/guest/sev_guest.py", share)
    result = context.lab(*options, "--share", share, "--", "bash", "-c", watched(f"cd /tmp\n{script}"))
    equal(result.returncode, status, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode()


# A report on 64 bytes, its chain, and what becomes of a report that was changed.
VERIFIED = """
head -c 64 /dev/urandom >data
snpguest report report data --vmpl 0 || exit 1
snpguest certificates pem certs || exit 1
snpguest verify certs certs || exit 1
snpguest verify attestation certs report {model} || exit 1
cmp -i 0:80 -n 64 data report && echo "the data is in the report"
openssl x509 -in certs/ark.pem -noout -subject
cp report changed
damage changed 200
snpguest verify attestation certs changed {model} >/dev/null 2>&1 || echo "a changed report is refused"
"""


def verified(context, kernel, model, argument, *options, key="VCEK", authority="ASK"):
    output = inside(context, VERIFIED.format(model=argument), *GUEST, "--kernel", kernel, "--model", model, *options)
    for line in ("The AMD ARK was self-signed!", f"The AMD {authority} was signed by the AMD ARK!",
                 f"The {key} was signed by the AMD {authority}!",
                 "Reported TCB SNP from certificate matches the attestation report.", "VEK signed the Attestation Report!",
                 "the data is in the report", "a changed report is refused"):
        contains(output.splitlines(), line, "output")
    contains(output, f"CN=ARK-{model.capitalize()} of the psp-emu emulator", "the root")


def test_snpguest_verifies_a_report_up_to_the_emulated_root(context):
    # Of a version 2 report nobody can tell the model.
    verified(context, "debian", "milan", "--processor-model milan")


def test_snpguest_verifies_reports_of_later_models(context):
    verified(context, "kunit", "genoa", "")
    verified(context, "kunit", "turin", "")


def test_snpguest_verifies_a_report_that_a_vlek_has_signed(context):
    verified(context, "kunit", "genoa", "", "--vlek", key="VLEK", authority="ASVK")


def test_derived_keys_belong_to_the_chip(context):
    """The same in the next VM on this chip, and on another chip none of them."""
    script = "for fields in 000001 001000; do snpguest key key vcek --vmpl 0 -g $fields && sha256sum <key; done"
    states = [context.directory / name for name in ("chip", "chip", "other")]
    first, again, other = (inside(context, script, *QUICK, "--state", state).split() for state in states)
    equal(again, first, "keys of the same chip")
    equal(len({*first, *other} - {"-"}), 4, "different keys of two chips")


def test_configfs_has_the_report_and_the_certificates(context):
    script = """
    mount -t configfs none /sys/kernel/config
    report=/sys/kernel/config/tsm/report/lab
    mkdir $report && cd $report || exit 1
    head -c 64 /dev/urandom >/tmp/data
    cat /tmp/data >inblob
    cat outblob >/tmp/report
    cat auxblob >/tmp/certificates
    cat provider generation
    cmp -i 0:80 -n 64 /tmp/data /tmp/report && wc -c </tmp/report
    od -An -tx1 -N16 /tmp/certificates
    cd / && rmdir $report
    """
    output = inside(context, script, *QUICK).splitlines()
    equal(output, ["sev_guest", "1", "1184", " 63 da 75 8d e6 64 45 64 ad c5 f4 b9 3b e8 ac cd"], "files")


def secret(context):
    """64 bytes that are nowhere else, and a script that writes them to the file `data`. They are not in it as they are: it
    comes through shared memory."""
    data = hashlib.sha512(str(context.directory).encode()).digest()
    complement = bytes(255 - byte for byte in data).hex()
    make = "import sys; sys.stdout.buffer.write(bytes(255 - byte for byte in bytes.fromhex(sys.argv[1])))"
    return data, f"python3 -c '{make}' {complement} >data"


def test_data_for_the_firmware_stays_private(context):
    """What a report is made about: seen from the host it is nowhere."""
    data, make = secret(context)
    script = f"{make}; snpguest report report data --vmpl 0 && snpguest certificates pem certs && cmp -i 0:80 -n 64 data report"
    inside(context, script, *QUICK, "--expect-private", data.hex())


REQUESTS = "python3 -B /mnt/share/sev_guest.py"


def test_a_host_that_is_busy_or_has_more_certificates_costs_no_key(context):
    lengths = (16384, 0, 0, 4096, 8192, 16384)
    script = f"{REQUESTS} report {' '.join(f'certificates:{length}' for length in lengths)} report key"
    # An absurd number of pages is cut off where the length would wrap.
    faults = ("busy:2", "table:1", "busy:1", "table:1", "pages:0xffffffff:1")
    options = [word for fault in faults for word in ("--fault", fault)]
    trace = context.directory / "trace"
    output = inside(context, script, *QUICK, *options, "--trace", trace).splitlines()
    equal(output, [
        f"OK {UNTOUCHED}", f"OK {UNTOUCHED} 16384", "EIO 0x100000000 4294963200",
        # Too small: nobody wanted them, and one page of two.
        "EIO 0x100000000 8192", "EIO 0x100000000 8192", f"OK {UNTOUCHED} 8192", f"OK {UNTOUCHED} 16384",
        f"OK {UNTOUCHED}", f"OK {UNTOUCHED}",
    ], "ioctls")
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    codes = [(event["exit_code"][-1], event["vmm"]) for event in events if event["event"] == "guest_request"]
    # A message that did not fit goes again as a plain request.
    equal(codes[5:11], 3 * [("2", 1), ("1", 0)], "what the host saw")


# How each fault ends, which costs a key, and what the log says; the next request finds that there is none. The first
# request is one without a fault, so that there is an old answer: 2 is its number, and 4 would have been the next one's.
BAD = "no answer to this request: {}, rc -74"
FATAL = (
    ("lost", "EIO 0x1d", "refused: firmware status 0x001d (AEAD_OFLOW), rc -5"),
    ("silent", "EBADMSG 0x0", BAD.format("Seqno(0)")),
    ("garbage", "EBADMSG 0x0", BAD.format("Seqno(...)")),
    ("short", "EBADMSG 0x0", BAD.format("Forged")),
    ("long", "EBADMSG 0x0", BAD.format("Len(65535)")),
    ("replay", "EBADMSG 0x0", BAD.format("Seqno(2)")),
    ("reordered", "EBADMSG 0x0", BAD.format("Seqno(2)")),
    ("wrong-tag", "EBADMSG 0x0", BAD.format("Forged")),
    ("wrong-seqno", "EBADMSG 0x0", BAD.format("Seqno(5)")),
    ("wrong-type", "EBADMSG 0x0", BAD.format("Type(6)")),
    ("wrong-version", "EBADMSG 0x0", BAD.format("Version(2)")),
    ("status:0x16", "EIO 0x16", "refused: firmware status 0x0016 (INVALID_PARAM), rc -5"),
    ("vmm-error:3", "EIO 0x300000000", "refused: host error 3, rc -5"),
    ("vmm-error:1", "EIO 0x100000000", "refused: host error 1, rc -5"),
)


def fatal(context, some):
    """A VM for four faults, each with a key of its own."""
    load = "modprobe virtio_sev_shim lab_transport=1 vmpck_id="
    script = "\n".join(f"modprobe -r virtio_sev_shim; {load}{key} && {REQUESTS} data:data report key report report" for key in range(len(some)))
    # The request before each fault meets one that does nothing to it, and so does the second try of the one that is lost.
    faults = [f"table:1 {fault}:1{' table:1' * (fault == 'lost')}" for fault, *_ in some]
    options = [word for fault in " ".join(faults).split() for word in ("--fault", fault)]
    again = f"modprobe -r virtio_sev_shim; {load}0; {REQUESTS} report 2>&1 | tail -1; dmesg | grep -c 'destroyed, or a number would be used twice'; " \
        "dmesg | sed -n 's/.*virtio_sev_shim: \\(.*\\); key destroyed$/\\1/p'"
    data, make = secret(context)
    output = inside(context, f"{make}\n{script}\n{again}", *QUICK, *options, "--expect-private", data.hex())
    lines = output.splitlines()
    # Noise has any number.
    said = [re.sub(r"Seqno\(\d{4,}\)", "Seqno(...)", line) for line in lines[-len(some):]]
    equal(said, [reason for *_, reason in some], "what the log says")
    del lines[-len(some):]
    for number, (fault, outcome, _) in enumerate(some):
        # Nothing was sent without a key, so EXITINFO2 says nothing.
        want = [f"OK {UNTOUCHED}", outcome, "ENOTTY", "ENOTTY"]
        found = lines[4 * number:4 * number + 4]
        equal([line.removesuffix(f" {UNTOUCHED}") if line.startswith("ENOTTY") else line for line in found],
              [line.replace(" 0x0", f" {UNTOUCHED}") for line in want], fault)
    contains(lines[-2], "No such file or directory: '/dev/sev-guest'", "the device, when the module is loaded with a key that is gone")
    equal(lines[-1], str(len(some)), "keys that the log says were destroyed")


def test_whatever_else_the_host_does_destroys_the_key_once(context):
    for first in range(0, len(FATAL), 4):
        fatal(context, FATAL[first:first + 4])


def test_a_host_that_is_always_busy_is_not_waited_for_for_ever(context):
    output = inside(context, f"{REQUESTS} report report", *QUICK, "--fault", "busy").splitlines()
    equal(output, ["ETIMEDOUT 0x200000000", f"ENOTTY {UNTOUCHED}"], "ioctls")


def test_whoever_waits_for_a_busy_host_can_be_killed(context):
    """At once, and the key goes with it: the message may be with the host."""
    script = f"""
    {REQUESTS} report &
    until grep -q 0xc0205300 /proc/$!/syscall; do sleep 0.1; done
    kill -9 $!
    wait $!
    echo $?
    {REQUESTS} report
    """
    output = inside(context, script, *QUICK, "--fault", "busy").splitlines()
    equal(output, ["137", f"ENOTTY {UNTOUCHED}"], "status of who was killed, and the next ioctl")
