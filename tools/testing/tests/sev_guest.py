# SPDX-License-Identifier: GPL-2.0
"""/dev/sev-guest and configfs over the lab's transport: the ABI of the C driver to the errno, many callers, coming and going.
attestation.py has hosts that cheat, and what becomes of the key."""

from lab.paths import CHECKOUT
from lab.suites import contains, equal, watched

KERNELS = ("debian", "kunit", "debug")
LAB = ("run", "--role", "guest", "--module-param", "virtio_sev_shim.lab_transport=1")
QUICK = (*LAB, "--kernel", "kunit", "--smp", "1")
CLIENT = CHECKOUT / "tools/testing/guest/sev_guest.py"

LOUD = "LAB TRANSPORT: /dev/sev-guest asks an EMULATED PSP. Its reports prove NOTHING."
TAINT_TEST = 1 << 18


def run(context, program, *options, vm=QUICK, before="", after=""):
    """What a program with the client in it prints in a VM in which the kernel has nothing to complain about."""
    share = context.directory / "share"
    share.mkdir(exist_ok=True)
    (share / "sev_guest.py").write_bytes(CLIENT.read_bytes())
    (share / "program.py").write_text(f"from sev_guest import *\n{program}")
    script = f"{before}\npython3 -B /mnt/share/program.py || exit\n{after}\ntrue"
    result = context.lab(*vm, *options, "--share", share, "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode().splitlines()


def test_arguments_are_checked_as_by_the_c_driver(context):
    """Which errno, in which order, and whether exitinfo2 comes back."""
    program = """
import mmap
fd = open_device()
page = ctypes.create_string_buffer(8192)
good, bad = ctypes.addressof(page), 0x10
print(*call(fd, GET_REPORT, 0, 0, msg_version=0))
print(*call(fd, 0x1234, 0, 0, msg_version=0))
print(*call(fd, 0x1234, good, good))
print(*call(fd, GET_REPORT + 3, good, good))
for number in GET_REPORT, GET_DERIVED_KEY, GET_EXT_REPORT:
    print(*call(fd, number, 0, good), *call(fd, number, good, 0), *call(fd, number, bad, good), *call(fd, number, good, bad))
try:
    fcntl.ioctl(fd, GET_REPORT, 0x10)
except OSError as error:
    print(errno.errorcode[error.errno])
for length in 1, 4095, 20480, 0xfffff000:
    print(ask(fd, GET_EXT_REPORT, bytes(96) + struct.pack("<QI4x", good, length), 4000)[:2])
print(ask(fd, GET_EXT_REPORT, bytes(96) + struct.pack("<QI4x", 1 << 63, 4096), 4000)[:2])
print(*report(fd)[:3])
"""
    lines = run(context, program)
    equal(lines[:4], ["EINVAL None", "EINVAL None", "ENOTTY 0xff", "ENOTTY 0xff"], "version and number")
    null, fault = "EINVAL 0xff EINVAL 0xff EFAULT 0xff", "EFAULT None"
    equal(lines[4:6], [f"{null} {fault}"] * 2, "addresses of report and key: none, and such that fault")
    # Without room for certificates the host says how much they need, before anything is written.
    equal(lines[6], f"{null} EIO 0x100000000", "addresses of the extended report")
    equal(lines[7], "EFAULT", "address of the argument")
    equal(lines[8:12], ["('EINVAL', '0xff')"] * 4, "lengths of certificates")
    equal(lines[12], "('EFAULT', '0xff')", "certificates to an address that is not user space's")
    equal(lines[13], "OK None 0", "a report after all that")


def test_reports_and_keys(context):
    program = """
fd = open_device()
data = bytes(range(100, 164))
outcome, info, status, first = report(fd, data)
print(outcome, info, status, len(first), first[0x50:0x90] == data)
print(*report(fd, data, vmpl=3)[:3], *report(fd, data, vmpl=4)[:3], *report(fd, data, key=2)[:3])
keys = [derived_key(fd), derived_key(fd), derived_key(fd, fields=1), derived_key(fd, root=1)]
print(*{key[:3] for key in keys}, len({key[3] for key in keys}), keys[0][3] == keys[1][3])
outcome, info, needed, _, _ = ext_report(fd, 0)
print(outcome, info, needed)
outcome, info, length, response, certs = ext_report(fd, needed)
print(outcome, info, length == needed, certs[:16].hex(), response[32:][0x50:0x90] == bytes(64))
outcome, info, length, response, certs = ext_report(fd, 16384)
print(outcome, info, length, certs[needed:] == bytes(16384 - needed))
"""
    lines = run(context, program)
    equal(lines[0], "OK None 0 1184 True", "a report")
    equal(lines[1], "OK None 0 OK None 22 OK None 39", "a lower VMPL, one that is none, and no VLEK")
    equal(lines[2], "('OK', None, 0) 3 True", "derived keys: all OK, three different ones, the same twice")
    contains(lines[3], "EIO 0x100000000 ", "an extended report without room")
    needed = int(lines[3].split()[2])
    equal((needed % 4096, 0 < needed <= 16384), (0, True), f"bytes needed: {needed}")
    # 63da758d-e664-4564-adc5-f4b93be8accd, the VCEK's GUID.
    equal(lines[4], "OK None True 63da758de6644564adc5f4b93be8accd True", "an extended report, and what its table begins with")
    equal(lines[5], "OK None 16384 True", "more room than needed: zeros behind")


def test_derived_keys_stay_in_private_memory(context):
    """The same chip gives the same guest the same key, so the second time it is known what to look for from outside."""
    state = ("--state", context.directory / "chip")
    key, = run(context, "print(derived_key(open_device(), fields=1)[3].hex())", *state)
    keep = "open('/tmp/key', 'wb').write(derived_key(open_device(), fields=1)[3])"
    equal(run(context, keep, *state, "--expect-private", key), [], "what is printed")


def test_many_callers_at_once(context):
    program = """
import multiprocessing
def caller(number):
    fd = open_device()
    for turn in range(10):
        data = bytes([number, turn]) * 32
        outcome, info, status, got = report(fd, data)
        if (outcome, status, got[0x50:0x90]) != ("OK", 0, data):
            return outcome, info, status
    return "good"
with multiprocessing.Pool(8) as pool:
    print(*pool.map(caller, range(8)))
"""
    equal(run(context, program, vm=LAB), ["good " * 7 + "good"], "what 8 callers got")


def test_numbers_go_on_after_the_module_was_loaded_again(context):
    """The firmware would refuse a number it has seen, and the key would be gone."""
    program = """
import subprocess
for turn in range(3):
    fd = open_device()
    print(*report(fd)[:3], *derived_key(fd)[:3])
    os.close(fd)
    subprocess.run("rmmod virtio_sev_shim && modprobe virtio_sev_shim lab_transport=1", shell=True, check=True)
"""
    equal(run(context, program), ["OK None 0 OK None 0"] * 3, "reports and keys")


REPORT = "/sys/kernel/config/tsm/report"
TSM = f"""
import os
report = "{REPORT}/r0"
os.mkdir(report)
def show(name):
    with open(f"{{report}}/{{name}}", "rb") as file:
        return file.read()
def store(name, value):
    try:
        with open(f"{{report}}/{{name}}", "wb", buffering=0) as file:
            file.write(value)
        return "OK"
    except OSError as error:
        return errno.errorcode[error.errno]
def errno_of(name):
    try:
        return len(show(name))
    except OSError as error:
        return errno.errorcode[error.errno]
print(show("provider").decode().strip(), show("privlevel_floor").decode().strip(), sorted(os.listdir(report)))
print(store("inblob", bytes(63)), errno_of("outblob"))
print(store("inblob", bytes(range(64))), len(show("outblob")), show("outblob")[0x50:0x90] == bytes(range(64)))
print(len(show("auxblob")) > 3000, show("generation").decode().strip())
print(store("privlevel", b"3"), len(show("outblob")), show("outblob")[0x30:0x34].hex(), store("privlevel", b"4"))
os.rmdir(report)
"""


def test_reports_in_configfs(context):
    lines = run(context, TSM, before="modprobe configfs 2>/dev/null; mount -t configfs configfs /sys/kernel/config")
    files = ["auxblob", "generation", "inblob", "outblob", "privlevel", "privlevel_floor", "provider"]
    equal(lines[0], f"sev_guest 0 {files}", "provider, floor, files")
    equal(lines[1], "OK EINVAL", "63 bytes")
    equal(lines[2], "OK 1184 True", "a report")
    equal(lines[3].split()[0], "True", "certificates")
    equal(lines[4], "OK 1184 03000000 EINVAL", "another VMPL, and one that is none")


def test_nothing_is_lost_by_reports_and_the_modules_coming_and_going(context):
    """Under KASAN, lockdep and kmemleak: reports, keys, certificates and configfs entries, also some that are refused."""
    program = f"""
ask_report = report
{TSM}
import subprocess
def shared():
    return open("/sys/kernel/sev_guest/shared_pages").read().strip()
for turn in range(3):
    fd = open_device()
    for length in 0, 4096, 16384:
        ext_report(fd, length)
    print(*ask_report(fd)[:3], *derived_key(fd, fields=1)[:3], *ask_report(fd, vmpl=4)[:3])
    os.mkdir(report_dir := f"{REPORT}/kept{{turn}}")
    open(f"{{report_dir}}/inblob", "wb", buffering=0).write(bytes(64))
    len(open(f"{{report_dir}}/auxblob", "rb").read())
    os.close(fd)
    os.rmdir(report_dir)
    subprocess.run("rmmod virtio_sev_shim && modprobe virtio_sev_shim lab_transport=1", shell=True, check=True)
print(shared())
"""
    lines = run(context, program, vm=(*LAB, "--kernel", "debug"),
                before="modprobe configfs 2>/dev/null; mount -t configfs configfs /sys/kernel/config",
                after="""rmmod virtio_sev_shim; for round in 1 2; do sleep 6; echo scan >/sys/kernel/debug/kmemleak; done
cat /sys/kernel/debug/kmemleak; [ -e /proc/lockdep ] && echo checked""")
    # Two pages are for messages to the firmware.
    equal(lines[5:], ["OK None 0 OK None 0 OK None 22"] * 3 + ["2", "checked"], "reports, shared pages, leaks")


def test_a_wrong_certificate_table_is_cut_off(context):
    lines = run(context, TSM, "--fault", "table", before="modprobe configfs 2>/dev/null; mount -t configfs configfs /sys/kernel/config",
                after="dmesg | grep -o 'certificates beyond their buffer'")
    equal(lines[-1], "certificates beyond their buffer", "log")
    # Two reports had such a table, and the host could go on.
    equal(lines.count(lines[-1]), 1, "how often the log has it")


def test_an_id_that_no_key_can_have_is_refused(context):
    script = """rmmod virtio_sev_shim; for id in -5 -2; do modprobe virtio_sev_shim vmpck_id=$id 2>&1; done
modprobe virtio_sev_shim vmpck_id=-1 && echo loaded; dmesg | grep -o 'vmpck_id= .*'"""
    lines = context.lab(*QUICK, "--", "sh", "-c", script).stdout.decode().splitlines()
    refused = "modprobe: ERROR: could not insert 'virtio_sev_shim': Invalid argument"
    equal(lines, [refused, refused, "loaded", *["vmpck_id= is 0 to 3, or -1 for that of the VMPL"] * 2], "what is said")


def test_the_transport_is_loud_and_never_by_chance(context):
    script = f"""grep . /sys/kernel/sev_guest/guest_requests; dmesg | grep -o 'LAB TRANSPORT.*'; echo $(($(cat /proc/sys/kernel/tainted) & {TAINT_TEST}))
rmmod virtio_sev_shim; modprobe virtio_sev_shim; cat /sys/kernel/sev_guest/guest_requests; ls /dev/sev-guest 2>/dev/null
dmesg | grep -o 'no /dev/sev-guest.*'"""
    result = context.lab(*QUICK, "--", "sh", "-c", script)
    expected = ["lab", LOUD, str(TAINT_TEST), "none", "no /dev/sev-guest: only SEV-SNP guests can ask the firmware"]
    equal(result.stdout.decode().splitlines(), expected, "with the parameter, and without")


def test_the_log_says_why_there_is_no_device(context):
    """There is nobody to ask; or configfs has a report of the one before."""
    script = "ls /dev/sev-guest 2>/dev/null; dmesg | grep -o 'no /dev/sev-guest.*'"
    nobody = context.lab(*QUICK, "--model", "naples", "--", "sh", "-c", script)
    equal(nobody.stdout.decode().splitlines(), ["no /dev/sev-guest: lab_transport=1, and no emulated PSP that can be used"], "without a device")
    script = f"""mount -t configfs configfs /sys/kernel/config; mkdir /sys/kernel/config/tsm/report/left; rmmod virtio_sev_shim
modprobe virtio_sev_shim lab_transport=1; {script}; dmesg | grep -o 'another driver.*'; rmdir /sys/kernel/config/tsm/report/left
modprobe -r virtio_sev_shim; modprobe virtio_sev_shim lab_transport=1; ls /dev/sev-guest"""
    left = context.lab(*QUICK, "--", "sh", "-c", script)
    expected = ["no /dev/sev-guest: lab_transport=1, and no emulated PSP that can be used",
                "another driver provides reports (unload sev-guest first), or configfs has reports of one that is gone (remove the "
                "directories in tsm/report)", "/dev/sev-guest"]
    equal(left.stdout.decode().splitlines(), expected, "with a directory that was left, and without it")


def test_unbinding_under_an_open_file(context):
    """Also while a request waits for a busy host; nothing stays shared."""
    program = """
import glob, threading, time
fd = open_device()
waiting = []
thread = threading.Thread(target=lambda: waiting.append(report(fd)[0]))
thread.start()
time.sleep(1)
device = os.path.basename(glob.glob("/sys/bus/pci/drivers/virtio_sev_shim/0000:*")[0])
with open("/sys/bus/pci/drivers/virtio_sev_shim/unbind", "w") as file:
    file.write(device)
print(os.path.exists("/dev/sev-guest"), *report(fd)[:2])
thread.join()
print(*waiting)
os.close(fd)
print(open("/sys/kernel/sev_guest/shared_pages").read().strip())
"""
    lines = run(context, program, "--fault", "busy", vm=(*LAB, "--kernel", "debug"))
    equal(lines, ["False ENODEV 0xff", "ENODEV", "0"], "node and a new request, the one that waited, shared pages")
