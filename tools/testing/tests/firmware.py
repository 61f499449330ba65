# SPDX-License-Identifier: GPL-2.0
"""Firmware updates: files in the guest's /lib/firmware that the driver downloads to the PSP."""

import json

from lab import programs
from lab.suites import Failure, contains, equal, watched

# What the tests boot; made before the first, which has no time for that.
KERNELS = ("kunit",)

# Loads the driver again and shows what it says of firmware, and which runs.
RELOAD = """
    mkdir -p /lib/firmware/amd
    reload() {
        rmmod kvm-amd 2>/dev/null; rmmod ccp; dmesg -C; modprobe ccp
        dmesg | sed -n -e 's/^.*ccp 0000:[^ ]*: //' -e '/[Uu]pdated/p'
        sevctl show version
    }
"""


def images(context, processor, **versions):
    """A directory to share with firmware images for a processor model, by name and version."""
    share = context.directory / "share"
    share.mkdir()
    for name, version in versions.items():
        context.output(programs.make_firmware(context.root), processor, version, share / name,
                       binds=[(share, share, False)])
    return share


def run(context, model, share, script, driver="rust"):
    """Runs a script; its output, and how often DOWNLOAD_FIRMWARE was sent."""
    trace = context.directory / "trace"
    result = context.lab("run", "--kernel", "kunit", "--model", model, "--driver", driver, "--share", share,
                         "--trace", trace, "--", "sh", "-c", watched(RELOAD + script))
    if result.returncode:
        raise Failure(f"status {result.returncode}\n{result.stdout.decode()}\n{result.stderr.decode()}")
    names = [json.loads(line).get("name") for line in trace.read_text().splitlines()]
    return result.stdout.decode(), names.count("DOWNLOAD_FIRMWARE")


def test_the_most_specific_file_is_downloaded(context):
    share = images(context, "milan", any="1.56.1", sixteen="1.56.2", model="1.56.3")
    for driver in ("rust", "upstream"):
        output, downloads = run(context, "milan", share, """
            reload
            cp /mnt/share/any /lib/firmware/amd/sev.fw; reload
            cp /mnt/share/sixteen /lib/firmware/amd/amd_sev_fam19h_model0xh.sbin; reload
            cp /mnt/share/model /lib/firmware/amd/amd_sev_fam19h_model01h.sbin; reload
            reload""", driver)
        equal(output.splitlines(), [
            "1.55.21",
            "SEV firmware updated from 1.55.21 to 1.56.1", "1.56.1",
            "SEV firmware updated from 1.56.1 to 1.56.2", "1.56.2",
            "SEV firmware updated from 1.56.2 to 1.56.3", "1.56.3",
            # Already there: nothing to say.
            "1.56.3",
        ], f"what the {driver} driver says, and the running version")
        equal(downloads, 4, f"DOWNLOAD_FIRMWARE commands of the {driver} driver")


def test_firmware_before_1_50_is_downloaded_twice(context):
    share = images(context, "rome", any="0.25.1")
    output, downloads = run(context, "rome", share, "cp /mnt/share/any /lib/firmware/amd/sev.fw; reload")
    equal(output, "SEV firmware updated from 0.24.15 to 0.25.1\n0.25.1\n", "what the driver says")
    equal(downloads, 2, "DOWNLOAD_FIRMWARE commands")


def test_a_bad_file_is_named_and_harms_nothing(context):
    share = images(context, "milan", good="1.56.1", old="1.54.1")
    output, _ = run(context, "milan", share, """
        file=/lib/firmware/amd/sev.fw
        head -c 100000 /dev/urandom >$file; reload
        head -c 200 /mnt/share/good >$file; reload
        cp /mnt/share/old $file; reload
        : >$file; reload
        cp /mnt/share/good $file; damage $file 100; reload""")
    lines = output.splitlines()
    equal([line for line in lines if "DOWNLOAD" not in line], ["1.55.21"] * 5, "the running version")
    equal(len(lines), 9, "lines: an empty file is none")
    for line in lines:
        if "DOWNLOAD" in line:
            contains(line, "SEV: firmware not updated: DOWNLOAD_FIRMWARE failed 0x00", "the driver's complaint")
    contains(output, "BAD_VERSION", "the complaint about the old image")
    contains(output, "BAD_SIGNATURE", "the complaint about the damaged image")
