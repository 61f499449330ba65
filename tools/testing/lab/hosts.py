# SPDX-License-Identifier: GPL-2.0
"""A script in a VM with an emulated PSP: what most tests of the driver do."""

from .suites import Failure, watched


def host(context, script, *options, kernel="kunit", status=0):
    """Run a script in the host role; what it printed. Fails if it ends otherwise, or if the kernel complained.

    The small kernel on one CPU boots in a third of the time. What administrators see is tested on Debian's; where CPUs may
    get into each other's way there are more of them.
    """
    processors = () if kernel != "kunit" else ("--smp", 1)
    result = context.lab("run", "--kernel", kernel, *processors, *options, "--", "sh", "-c", watched(script))
    if result.returncode != status:
        raise Failure(f"status {result.returncode}\n{result.stdout.decode()}\n{result.stderr.decode()}")
    return result.stdout.decode()
