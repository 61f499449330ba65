# SPDX-License-Identifier: GPL-2.0
"""The platform's persistent data in a file: `init_ex_path`."""

import json

from lab import programs
from lab.clients import sev_ioctl
from lab.faults import NV_DIRECTORY
from lab.hosts import host
from lab.suites import contains, equal

# What the tests boot; made before the first, which has no time for that.
KERNELS = ("kunit", "debian")

NV = f"{NV_DIRECTORY}/nv"
LEN = 32768

# `id`: the owner's key (the OCA's is in the exported chain); `reload`: the driver again, with the file.
FUNCTIONS = f"""
    file={NV}
    lines() {{ dmesg -c | sed -n 's/^\\[[^]]*\\] ccp 0000:[^ ]* //p' | grep 'SEV: ' | grep -v 'without its interrupt'; }}
    call() {{ /mnt/share/sev-ioctl "$@" | sed 's/^ *//' | cut -d' ' -f1-4; }}
    identity() {{ python3 /mnt/share/identity.py; }}
    load() {{ modprobe ccp init_ex_path=$file psp_init_on_probe=0 && modprobe kvm-amd; }}
    unload() {{ rmmod kvm-amd; rmmod ccp; }}
    unload; dmesg -c >/dev/null
"""


# Prints a digest of the platform's certificates.
IDENTITY = """
import ctypes, fcntl, hashlib, struct
pdh, chain = (ctypes.create_string_buffer(length) for length in (2084, 6252))
request = struct.pack("<QIQI", ctypes.addressof(pdh), len(pdh), ctypes.addressof(chain), len(chain))
buffer = ctypes.create_string_buffer(request, len(request))
with open("/dev/sev", "r+b", buffering=0) as file:
    fcntl.ioctl(file, 0xc0105300, bytearray(struct.pack("<IQI", 5, ctypes.addressof(buffer), 0)))
print(hashlib.sha256(pdh.raw + chain.raw).hexdigest())
"""


def prepared(context):
    """A directory to share with the VM."""
    share = sev_ioctl(context)
    (share / "identity.py").write_text(IDENTITY)
    return share


def run(context, script, *options):
    """Output lines of a script that has FUNCTIONS, and the PSP's commands."""
    share, trace = prepared(context), context.directory / "trace"
    output = host(context, FUNCTIONS + script, "--share", share, "--trace", trace, *options)
    names = [json.loads(line).get("name") for line in trace.read_text().splitlines()]
    return output.splitlines(), names


def test_a_missing_file_is_made_and_used_from_then_on(context):
    got, names = run(context, f"""
        load; call pek_csr; lines; stat -c '%s %a' $file; ls {NV_DIRECTORY}
        a=$(identity); unload; load; b=$(identity); [ "$a" = "$b" ] && echo same
        call pek_gen; c=$(identity); unload; load; [ "$c" = "$(identity)" ] && [ "$a" != "$c" ] && echo new""")
    equal(got, ["pek_csr rw OK error=0", f"SEV: {NV} does not exist and will be created later.",
                f"{LEN} 600", "nv", "same", "pek_gen rw OK error=0", "new"], "the file's life")
    # The one INIT is of the driver that the lab has loaded, without a file.
    equal(("INIT_EX" in names, names.count("INIT")), (True, 1), "the commands")


def test_files_pass_between_the_drivers(context):
    """The format is the firmware's."""
    share, state = prepared(context), context.directory / "state"
    (share / "nv").write_bytes(b"")
    outputs = []
    for driver in ("rust", "upstream", "rust"):
        output = host(context, "python3 /mnt/share/identity.py", "--driver", driver, "--share", share,
                      "--state", state, "--module-param", "ccp.init_ex_path=/mnt/share/nv")
        outputs.append(output)
        equal((share / "nv").stat().st_size, LEN, f"bytes after the {driver} driver")
    equal(outputs[1:], outputs[:1] * 2, "the platform's identity with upstream's driver and again with ours")


def test_files_that_are_empty_short_long_or_corrupt(context):
    retrying = "SEV: retrying INIT command because of SECURE_DATA_INVALID error. Retrying once to reset PSP SEV state."
    kept = f"SEV: {NV} is written anew; what was in it is kept as {NV}.bad"
    got, _ = run(context, f"""
        try() {{ echo "$1"; load; call pek_csr; lines; unload; stat -c '%n %s' $file*; dmesg -c >/dev/null; }}
        : >$file; try empty
        cp $file /tmp/good; cp /tmp/good $file; try good
        head -c 100 /tmp/good >$file; try short
        rm $file.bad; (cat /tmp/good; echo more) >$file; try long
        rm $file.bad; damage $file 1000; cp $file /tmp/corrupt; try corrupt
        cmp $file.bad /tmp/corrupt && echo kept""")
    equal(got, [
        "empty", "pek_csr rw OK error=0", f"SEV: {NV} does not exist and will be created later.", f"{NV} {LEN}",
        "good", "pek_csr rw OK error=0", f"{NV} {LEN}",
        "short", "pek_csr rw OK error=0", f"SEV: {NV} has only 100 bytes, and will not be accepted", retrying, kept,
        f"{NV} {LEN}", f"{NV}.bad 100",
        "long", "pek_csr rw OK error=0", f"SEV: {NV} has {LEN + 5} bytes, of which only the first are used", kept,
        f"{NV} {LEN}", f"{NV}.bad {LEN + 5}",
        "corrupt", "pek_csr rw OK error=0", retrying, kept, f"{NV} {LEN}", f"{NV}.bad {LEN}", "kept",
    ], "what became of them")


def test_a_file_that_cannot_be_read_fails_init_and_nothing_else(context):
    got, names = run(context, "mkdir $file; load; call pek_csr platform_status; lines; rmdir $file; call pek_csr")
    equal(got, ["pek_csr rw EISDIR error=0xffffffff", "status ro OK error=0",
                f"SEV: could not open {NV} for read, error -21", "pek_csr rw OK error=0"], "a directory in its place")
    equal(names.count("INIT_EX"), 1, "INIT_EX commands: none without the data")


def test_a_factory_reset_needs_no_file_that_can_be_read(context):
    """Nor does its end: the data are erased in memory until they can be written."""
    unwritten = (f"SEV: the command is done, but {NV} could not be written, error -22: "
                 "what the firmware keeps there lives in memory until it can be")
    got, names = run(context, """
        load; a=$(identity); unload; mv $file $file.old; mkdir $file; dmesg -c >/dev/null; load
        call factory_reset; lines; rmdir $file; b=$(identity); [ "$a" != "$b" ] && echo fresh; stat -c %s $file""")
    equal(got, ["factory_reset rw EINVAL error=0", f"SEV: could not open {NV} for read, error -21", unwritten, "fresh", str(LEN)],
          "what is said and done")
    equal(names.count("PLATFORM_RESET"), 1, "resets")


def test_firmware_is_updated_without_a_file_that_can_be_read(context):
    share, trace = prepared(context), context.directory / "trace"
    context.output(programs.make_firmware(context.root), "milan", "1.56.1", share / "new", binds=[(share, share, False)])
    output = host(context, FUNCTIONS + """
        mkdir $file; load; dmesg -c >/dev/null; mkdir -p /lib/firmware/amd; cp /mnt/share/new /lib/firmware/amd/sev.fw
        echo 1 >$(echo /sys/bus/pci/drivers/ccp/0000:*)/sev_update_firmware && echo updated; sevctl show version; lines
        call pek_csr""", "--share", share, "--trace", trace)
    equal(output.splitlines(), ["updated", "1.56.1", f"SEV: could not open {NV} for read, error -21",
                                "pek_csr rw EISDIR error=0xffffffff"],
          "what is said and done")


# Runs a command and shows what names came and went in a directory meanwhile.
WATCH = r"""
import ctypes, os, struct, subprocess, sys
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
libc.inotify_add_watch(watch, sys.argv[1].encode(), 0x3c0)
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL)
events = os.read(watch, 65536)
while events:
    _, mask, _, length = struct.unpack("iIII", events[:16])
    what = {0x40: "moved away", 0x80: "moved here", 0x100: "made", 0x200: "gone"}[mask & 0x3c0]
    print(events[16:16 + length].rstrip(b"\0").decode(), what)
    events = events[16 + length:]
"""


def test_the_name_always_has_a_file_also_when_the_old_one_is_kept(context):
    share, trace = prepared(context), context.directory / "trace"
    (share / "watch.py").write_text(WATCH)
    got = host(context, FUNCTIONS + f"""
        echo short >$file; echo older >$file.bad; load
        python3 /mnt/share/watch.py {NV_DIRECTORY} /mnt/share/sev-ioctl pek_csr; cat $file.bad; stat -c '%h %s' $file; ls {NV_DIRECTORY}""",
               "--share", share, "--trace", trace)
    equal(got.splitlines(), ["nv.new made", "nv.bad gone", "nv.bad made", "nv.new moved away", "nv moved here", "short",
                             f"1 {LEN}", "nv", "nv.bad"], "the directory")


# Writes a file system in a file (romfs, which needs no program to be made): all there is in it is a good file.
ROMFS = """
import struct, sys
data = open(sys.argv[1], "rb").read()
def header(kind, first, size, name):
    return struct.pack(">IIII16s", kind, first, size, 0, name)
# The root directory's header is at 32 and names that of its first file.
body = header(9, 64, 0, b".") + header(2, 0, len(data), b"nv") + data
size = 32 + len(body)
front = b"-rom1fs-" + struct.pack(">II16s", size, 0, b"") + body[:512 - 32]
checksum = -sum(struct.unpack(">128I", front)) % 2 ** 32
open(sys.argv[2], "wb").write(front[:12] + struct.pack(">I", checksum) + front[16:32] + body + bytes(-size % 4096))
"""


def test_a_file_whose_end_cannot_be_read_is_no_short_file(context):
    """The disk beneath a file system has errors in the file's second half; a read returns the first."""
    share, trace = prepared(context), context.directory / "trace"
    (share / "romfs.py").write_text(ROMFS)
    output = host(context, FUNCTIONS + f"""
        load; call pek_csr; unload
        python3 /mnt/share/romfs.py $file /tmp/image; cp $file /tmp/good
        modprobe loop; modprobe romfs; mount -o loop -t romfs /tmp/image {NV_DIRECTORY}
        cmp $file /tmp/good && echo good; dmesg -c >/dev/null
        truncate -s 16384 /tmp/image; echo 3 >/proc/sys/vm/drop_caches
        load; call pek_csr; lines; ls {NV_DIRECTORY}""", "--share", share, "--trace", trace, kernel="debian")
    equal(output.splitlines(), ["pek_csr rw OK error=0", "good", "pek_csr rw EIO error=0xffffffff",
                                f"SEV: could not open {NV} for read, error -5", "nv"], "an error in the middle")
    names = [json.loads(line).get("name") for line in trace.read_text().splitlines()]
    # The one of the file that was good.
    equal(names.count("INIT_EX"), 1, "INIT_EX commands")


def test_a_symbolic_link_is_followed_and_stays(context):
    got, _ = run(context, f"mkdir {NV_DIRECTORY}/real; : >{NV_DIRECTORY}/real/data; ln -s real/data $file; load; call pek_csr; readlink $file; "
                 f"stat -c %s {NV_DIRECTORY}/real/data")
    equal(got, ["pek_csr rw OK error=0", "real/data", str(LEN)], "the link and the file it names")


# What a full or a read-only file system does to a file that could be written before.
BROKEN = {"nv-full": (-28, "ENOSPC"), "nv-read-only": (-30, "EROFS")}


def test_a_failed_write_is_told_and_the_key_operation_stands(context):
    for number, (fault, (errno, name)) in enumerate(BROKEN.items()):
        unwritten = (f"SEV: the command is done, but {NV} could not be written, error {errno}: "
                     "what the firmware keeps there lives in memory until it can be")
        inner = context.directory / str(number)
        inner.mkdir()
        got, names = run(type(context)(context.root, inner), """
            load; a=$(identity); lines | grep -v API; call pek_gen; lines | grep -v API
            b=$(identity); [ "$a" != "$b" ] && echo stands; ls /var/lib/sev-nv
            umount /var/lib/sev-nv; mkdir -p /var/lib/sev-nv; call pdh_gen; unload; load; [ "$b" != "$(identity)" ] && echo
            stat -c %s $file""", "--fault", fault)
        equal(got[0], f"SEV: {NV} does not exist and will be created later.", "the first line")
        equal(got[1], unwritten, "what the log says at INIT_EX, which is no key operation and succeeds")
        equal(got[2:4], [f"pek_gen rw {name} error=0", unwritten], "what a caller and the log see")
        contains("\n".join(got), "stands", "the new key")
        equal(names.count("PEK_GEN"), 1, "PEK_GEN commands")


def test_a_factory_reset_erases_the_file(context):
    got, _ = run(context, """
        load; a=$(identity); call factory_reset; od -An -tx1 -N4 $file; b=$(identity); [ "$a" != "$b" ] && echo fresh; lines""")
    equal(got[:3], ["factory_reset rw OK error=0", " ff ff ff ff", "fresh"], "the reset")
    equal([line for line in got if "retrying" in line], [], "INITs that had to be retried")
