# SPDX-License-Identifier: GPL-2.0
"""Programs of the tests' own that run inside the VM."""

from .paths import CHECKOUT


def sev_ioctl(context):
    """A directory of the test's, to be shared with a VM, with sev-ioctl compiled in it."""
    return _compiled(context, "sev-ioctl")


def sev_kvm(context):
    """The same with sev-kvm."""
    return _compiled(context, "sev-kvm")


def sev_bench(context):
    """The same with sev-bench."""
    return _compiled(context, "sev-bench", "bench")


def _compiled(context, name, directory=None):
    share = context.directory / "share"
    share.mkdir()
    sources = sorted((CHECKOUT / "tools/testing" / (directory or name)).glob("*.c"))
    context.output("gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", share / name, *sources,
                   binds=[(share, share, False)])
    return share
