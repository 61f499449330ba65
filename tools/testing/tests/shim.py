# SPDX-License-Identifier: GPL-2.0
"""The guest helper on a stock kernel: what it tells, what it shares, what is left when it goes."""

import re
import statistics

from lab import flips
from lab.paths import CHECKOUT
from lab.suites import Failure, contains, equal, watched

KERNELS = ("debian", "kunit", "debug")
GUEST = ("run", "--role", "guest")
QUICK = (*GUEST, "--kernel", "kunit", "--smp", "1")
SYSFS = "/sys/kernel/sev_guest"
SAMPLES = CHECKOUT / "samples"

FEATURES = """alternate_injection btb_isolation debug_swap ibpb_on_entry ibs_virt prevent_host_ibs reflect_vc restricted_injection
secure_avic secure_tsc sev sev_es sev_snp smt_prot vmgexit_param vmpl_sss vmsa_reg_prot vtom""".split()

# Prometheus' text format: comments, and samples with a value.
HELP = re.compile(r"# HELP [a-z_]+ \S.*")
TYPE = re.compile(r"# TYPE ([a-z_]+) (gauge|counter)")
SAMPLE = re.compile(r'([a-z_]+)(\{[a-z_]+="[^"\\]*"(,[a-z_]+="[^"\\]*")*\})? (\d+)')

# Waits for a counter to change, and says what it is then.
WAITER = f"""
import os, select, subprocess
with open("{SYSFS}/shared_pages") as file:
    before = file.read().strip()
    poll = select.poll()
    poll.register(file, select.POLLPRI)
    quiet = poll.poll(200)
    subprocess.run(["modprobe", "sev_shared_pages_sample"], check=True)
    woken = poll.poll(10000)
    file.seek(0)
    print(before, quiet, bool(woken), file.read().strip())
"""

# What the sample leaves for the host.
NOTE = b"sev_shared_pages_sample: the host can read this"

# The median of many reads, in microseconds.
READER = f"""
import os, statistics, time
fd = os.open("{SYSFS}/protection", os.O_RDONLY)
times = []
for _ in range(2000):
    began = time.perf_counter_ns()
    os.pread(fd, 64, 0)
    times.append(time.perf_counter_ns() - began)
print(statistics.median(times) / 1000)
"""


def inside(context, script, *options):
    """What a script prints in a VM in which the kernel has nothing to complain about."""
    result = context.lab(*options, "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode()


def files(text):
    """The lines of `grep .`: a dict of values by file name."""
    return dict(line.rsplit("/", 1)[-1].split(":", 1) for line in text.splitlines())


def test_a_sev_guest_is_told_what_protects_it(context):
    output = inside(context, f"cd {SYSFS}; grep -s . *; echo --; grep . features/*; echo --; dmesg | grep -o 'virtio_sev_shim: .*'",
                    *GUEST)
    status, features, log = output.split("--\n")
    expected = {"protection": "SEV", "sev": "1", "sev_es": "0", "sev_snp": "0", "sev_status": "0x0000000000000001",
                "unknown_status_bits": "0x0000000000000000", "c_bit": "39", "guest_requests": "none", "shared_pages": "0",
                "shared_pages_max": "0", "flips": "0", "failed_flips": "0", "leaked_pages": "0",
                # The lab's own devices, whose drivers are built in.
                "rebind": "virtio1 virtio2"}
    equal(files(status), expected, "files")
    equal(files(features), {name: "01"[name == "sev"] for name in FEATURES}, "features")
    lines = log.splitlines()
    contains(lines, "virtio_sev_shim: SEV, C-bit 39 (SEV_STATUS 0x1: SEV)", "log")
    contains(lines, "virtio_sev_shim: no /dev/sev-guest: only SEV-SNP guests can ask the firmware", "log")


# What SEV_STATUS says; then the protection, the C-bit, unknown bits, features besides SEV, and the log.
STATUSES = (
    (0x8000000100000001, "SEV", "39", 0x8000000100000000, set(), "SEV, C-bit 39 (SEV_STATUS 0x8000000100000001: SEV bit 32 (unknown) bit 63 (unknown))"),
    (0x8000000000010001, "contradiction", "none", 0x8000000000000000, {"vmsa_reg_prot"},
     "cannot tell what protects this VM: SEV_STATUS has VMSARegProt without SEV-ES"),
)


def test_whatever_the_status_register_says_is_told(context):
    """What makes no sense, too. Of SEV-ES and SEV-SNP guests, in which no kernel runs here, KUnit knows."""
    share = context.directory
    (share / "sev-textfile").write_bytes((SAMPLES / "sev-textfile/sev-textfile.sh").read_bytes())
    for status, protection, c_bit, unknown, features, log in STATUSES:
        script = f"cd {SYSFS}; grep -s . *; echo --; grep . features/*; echo --; sh /mnt/share/sev-textfile; dmesg | grep -o 'virtio_sev_shim: .*'"
        output = inside(context, script, *QUICK, "--sev-status", hex(status), "--share", share)
        own, bits, told = output.split("--\n")
        wanted = {"protection": protection, "sev": "1", "sev_es": "0", "sev_snp": "0", "sev_status": f"{status:#018x}",
                  "unknown_status_bits": f"{unknown:#018x}", "c_bit": c_bit}
        equal({name: files(own)[name] for name in wanted}, wanted, f"files with {status:#x}")
        equal(files(bits), {name: "01"[name in {"sev", *features}] for name in FEATURES}, f"features with {status:#x}")
        lines = told.splitlines()
        contains(lines, f'sev_guest_info{{protection="{protection}",sev_status="{status:#018x}",c_bit="{c_bit}",guest_requests="none"}} 1',
                 "the exporter")
        for feature in FEATURES:
            contains(lines, f'sev_guest_feature{{feature="{feature}"}} {"01"[feature in {"sev", *features}]}', "the exporter")
        contains(lines, f"virtio_sev_shim: {log}", "log")


def test_other_machines_are_told_that_there_is_no_sev(context):
    script = f"modprobe virtio_sev_shim; cat {SYSFS}/protection {SYSFS}/c_bit {SYSFS}/sev_status; modprobe sev_shared_pages_sample; " \
             "dmesg | grep -o 'virtio_sev_shim: .*'; rmmod sev_shared_pages_sample virtio_sev_shim; dmesg | grep unloaded"
    output = inside(context, f"{script}; true", "run", "--kernel", "kunit", "--smp", "1")
    lines = output.splitlines()
    equal(lines[:3], ["none", "none", "0x0000000000000000"], "protection, C-bit, SEV_STATUS")
    contains(lines, "virtio_sev_shim: not a SEV guest: nothing is encrypted", "log")
    equal("unloaded" in output, False, "complaints when it was unloaded")


def test_pollers_are_woken_when_something_is_shared(context):
    (context.directory / "waiter.py").write_text(WAITER)
    output = inside(context, "python3 /mnt/share/waiter.py", *QUICK, "--share", context.directory)
    equal(output, "0 [] True 1\n", "before, woken without a change, woken by it, after")


def test_unloading_leaves_nothing_shared(context):
    """Nor leaked; and who shares keeps the module there."""
    script = f"""modprobe sev_shared_pages_sample; cat {SYSFS}/shared_pages; rmmod virtio_sev_shim 2>/dev/null && echo unloaded
rmmod sev_shared_pages_sample; cat {SYSFS}/shared_pages {SYSFS}/flips {SYSFS}/leaked_pages; rmmod virtio_sev_shim && ls -d {SYSFS} 2>&1
modprobe virtio_sev_shim; cat {SYSFS}/shared_pages; dmesg | grep -o 'unloaded with.*'; true"""
    output = inside(context, script, *QUICK)
    equal(output, f"1\n0\n2\n0\nls: cannot access '{SYSFS}': No such file or directory\n0\n", "what was printed")


def test_the_host_reads_what_is_shared(context):
    """A device at the address that the log names, and a search of all that the host sees."""
    script = f"""modprobe sev_shared_pages_sample; exec 9<>/dev/lab-host
at=$(dmesg | sed -n 's/.*a note for the host is at //p')
echo "device-read $at 47" >&9; read -r note <&9; echo "$note"
echo "find-complement {bytes(255 - byte for byte in NOTE).hex()}" >&9; read -r found <&9; echo "$found" """
    note, found = inside(context, script, *QUICK).splitlines()
    equal(bytes.fromhex(note), NOTE, "what a device reads there")
    equal(found.split()[:2], ["shared", "1"], f"whether the host finds it: {found}")


def test_what_a_module_forgot_is_private_when_the_helper_goes(context):
    """In the page tables, as the host sees them; and the log says so."""
    count = 'echo shared-pages >&9; read -r pages <&9; echo "$pages"'
    script = f"""exec 9<>/dev/lab-host; {count}; modprobe sev_flip_bench forget=1; rmmod sev_flip_bench; {count}
cat {SYSFS}/shared_pages; rmmod virtio_sev_shim; {count}
dmesg | grep -o 'unloaded with.*'; modprobe virtio_sev_shim; cat {SYSFS}/shared_pages
modprobe sev_shared_pages_sample; cat {SYSFS}/shared_pages"""
    before, shared, forgotten, after, *rest = inside(context, script, *QUICK).splitlines()
    equal((int(shared.split()[1]) - int(before.split()[1]), forgotten), (1, "1"), "pages that were shared and forgotten")
    equal(after, before, "pages that are shared when the helper is gone")
    equal(rest, ["unloaded with 1 pages shared, which are so no more, and 0 leaked", "0", "1"], "the log, and sharing again")


def test_nothing_is_shared_in_a_read_section_of_preemptible_rcu(context):
    """Which does not hold the CPU: the distribution's kernel has it, and it has to be asked for by itself."""
    script = f"""modprobe sev_flip_bench rcu=1; rmmod sev_flip_bench; cat {SYSFS}/flips
dmesg | grep -o -e 'sharing in a read section.*' -e 'memory cannot be shared.*'"""
    output = inside(context, script, *GUEST)
    equal(output.splitlines(), ["0", "memory cannot be shared in atomic context", "sharing in a read section: Some(EAGAIN)"],
          "flips, and the log")


def test_without_memory_nothing_is_leaked(context):
    """Sharing works or fails with ENOMEM; when there is memory again it works."""
    script = f"""mkdir /tmp/fill; mount -t tmpfs -o size=100% tmpfs /tmp/fill
left=$(awk '/^MemAvailable/ {{ print int($2 / 1024) }}' /proc/meminfo)
dd if=/dev/zero of=/tmp/fill/file bs=1M count=$((left - 8)) status=none
for round in 1 2 3; do
	modprobe sev_flip_bench 2>/tmp/errors && rmmod sev_flip_bench || grep -o 'Cannot allocate memory' /tmp/errors || cat /tmp/errors
done
cat {SYSFS}/shared_pages {SYSFS}/leaked_pages {SYSFS}/failed_flips
umount /tmp/fill; modprobe sev_flip_bench && rmmod sev_flip_bench && cat {SYSFS}/shared_pages {SYSFS}/leaked_pages"""
    lines = inside(context, script, *QUICK, "--mem", "256").splitlines()
    tight, after = lines[:-2], lines[-2:]
    print(f"     {tight}", flush=True)
    equal(set(tight[:-3]) <= {"Cannot allocate memory"}, True, f"what modprobe said: {tight}")
    # A flip may fail where a large page cannot be split, and such pages are leaked; but not without a failure.
    equal((tight[-3], tight[-2] == "0"), ("0", tight[-1] == "0"), f"shared pages, and leaked ones after no failed flip: {tight}")
    equal(after, ["0", tight[-2]], "shared and leaked pages when there is memory again")


def test_a_debug_kernel_has_nothing_to_complain_about(context):
    """KASAN, lockdep, sleeping in atomic context, kmemleak, while pages are flipped and modules come and go."""
    script = f"""set -e
for round in 1 2 3; do modprobe sev_shared_pages_sample; rmmod sev_shared_pages_sample virtio_sev_shim; modprobe virtio_sev_shim; done
modprobe sev_flip_bench; rmmod sev_flip_bench; cat {SYSFS}/shared_pages {SYSFS}/leaked_pages
sleep 6; echo scan >/sys/kernel/debug/kmemleak; sleep 1; echo scan >/sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak"""
    output = inside(context, script, *GUEST, "--kernel", "debug")
    equal(output, "0\n0\n", "shared, leaked, leaks of memory")


def test_the_exporter_speaks_prometheus(context):
    share = context.directory
    (share / "sev-textfile").write_bytes((SAMPLES / "sev-textfile/sev-textfile.sh").read_bytes())
    script = """cd /tmp; sh /mnt/share/sev-textfile >printed && sh /mnt/share/sev-textfile sev.prom && cmp printed sev.prom
ls; cat sev.prom; echo --; rmmod virtio_sev_shim; sh /mnt/share/sev-textfile"""
    listing, *printed = inside(context, script, *QUICK, "--share", share).split("\n", 2)
    equal([listing, printed[0]], ["printed", "sev.prom"], "files, none left over")
    metrics, without = printed[1].split("--\n")
    values, types = {}, {}
    for line in metrics.splitlines():
        if TYPE.fullmatch(line):
            types.update([TYPE.fullmatch(line).groups()])
        elif not HELP.fullmatch(line):
            sample = SAMPLE.fullmatch(line)
            if not sample or sample[1] not in types:
                raise Failure(f"not Prometheus' format: {line!r}")
            values[sample[1] + (sample[2] or "")] = int(sample[4])
    equal(values['sev_guest_active{technology="sev"}'], 1, "SEV")
    equal(values['sev_guest_active{technology="sev_snp"}'], 0, "SEV-SNP")
    equal((values["sev_guest_shared_pages"], values["sev_guest_leaked_pages"]), (0, 0), "pages")
    equal(types["sev_guest_flips_total"], "counter", "type of the flips")
    equal(sum(name.startswith("sev_guest_feature{") for name in values), len(FEATURES), "features")
    contains(without, "sev_guest_module_loaded 0\n", "metrics without the module")


def test_status_is_read_quickly(context):
    """20 microseconds in the lab on a quiet machine; here it only must not be another order of magnitude."""
    (context.directory / "reader.py").write_text(READER)
    median = float(inside(context, "python3 /mnt/share/reader.py", *QUICK, "--share", context.directory))
    print(f"     {median:.1f} us", flush=True)
    equal(median < 1000, True, f"median of {median} us")


def test_a_unit_costs_a_twentieth_of_single_pages(context):
    """In instructions, which do not depend on what else the machine does."""
    cost = flips.counted(context)
    equal(len(cost["unit"]), 5, "rounds")
    unit, pages = (statistics.median(flip.instructions for flip in cost[way]) for way in ("unit", "pages"))
    equal(unit * 20 < pages, True, f"instructions of a unit {unit}, of single pages {pages}")
