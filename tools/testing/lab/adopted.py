# SPDX-License-Identifier: GPL-2.0
"""For tests: scripts in SEV guests whose virtio devices work through the kernel's bounce buffers or have been adopted by the guest helper."""

from .suites import equal, watched

GUEST = ("run", "--role", "guest", "--kernel", "kunit")

# The kernel's bounce buffers, and the guest helper's pool.
DRIVERS = ("none", "rust")
DEBUGFS = "/sys/kernel/debug/virtio_sev_shim"
# A block of `name: value` lines for each device the guest helper knows, and for its pool.
REPORT = f"""echo --report
for file in {DEBUGFS}/devices/* {DEBUGFS}/pool; do echo "== ${{file##*/}}"; cat $file; done
"""


class Report:
    """What the guest helper says of devices and pool, from the output of REPORT."""

    def __init__(self, lines):
        self.blocks = {}
        for line in lines:
            if line.startswith("== "):
                block = self.blocks.setdefault(line.removeprefix("== "), {})
            else:
                name, _, value = line.partition(": ")
                block[name] = int(value) if value.isdigit() else value
        self.pool = self.blocks.pop("pool", {})

    def of(self, kind):
        """The devices of a kind, in the order of the command line."""
        found = [(int(name.removeprefix("virtio")), block) for name, block in self.blocks.items() if f"({kind})" in block["device"]]
        return [block for _, block in sorted(found, key=lambda pair: pair[0])]

    def adopted(self, kind, number):
        """The devices of a kind that have been adopted, which must be so many and have mapped something."""
        found = [block for block in self.of(kind) if block["state"] == "adopted"]
        equal((len(found), [block for block in found if not block["maps"]]), (number, []), f"adopted devices of kind {kind}, idle ones")
        return found


def inside(context, script, *options):
    """The lines that a script prints in a guest in which the kernel has nothing to complain about."""
    result = context.lab(*GUEST, *options, "--", "sh", "-c", watched(script))
    equal(result.returncode, 0, f"status: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode().splitlines()


def reported(context, script, *options):
    """The same, and the guest helper's report afterwards."""
    lines = inside(context, f"{script}\n{REPORT}", *options)
    at = lines.index("--report")
    return lines[:at], Report(lines[at + 1:])


def with_either(context, script, *options):
    """What a script prints with the kernel's bounce buffers and with the guest helper: the lines, and a report of the latter."""
    for driver in DRIVERS:
        if driver == "none":
            yield driver, inside(context, script, "--driver", driver, *options), None
        else:
            yield driver, *reported(context, script, "--driver", driver, *options)


def between(value, low, high, what):
    """Fail unless a number is within bounds."""
    equal(low <= value < high, True, f"{what}: {value}, from {low} up to {high}")
