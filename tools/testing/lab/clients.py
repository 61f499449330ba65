# SPDX-License-Identifier: GPL-2.0
"""Programs of the tests' own that run inside the VM."""

from .paths import CHECKOUT


def sev_ioctl(context):
    """A directory of the test's, to be shared with a VM, with sev-ioctl compiled in it."""
    share = context.directory / "share"
    share.mkdir()
    context.output("gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", share / "sev-ioctl",
                   CHECKOUT / "tools/testing/sev-ioctl/sev-ioctl.c", binds=[(share, share, False)])
    return share
