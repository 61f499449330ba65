# SPDX-License-Identifier: GPL-2.0
"""Programs of the tests' own that run inside the VM."""

import shutil

from .paths import CHECKOUT


def sev_ioctl(context):
    """A directory of the test's, to be shared with a VM, with sev-ioctl compiled in it."""
    return _compiled(context, "sev-ioctl")


def sev_kvm(context):
    """The same with sev-kvm."""
    return _compiled(context, "sev-kvm")


def sev_bench(context):
    """The same with sev-bench."""
    return _compiled(context, "sev-bench", "bench/sev-bench.c")


def dma_bench(context):
    """The same with direct-io, and the scripts that measure inside."""
    share = _compiled(context, "direct-io", "bench/direct-io.c")
    shutil.copy(CHECKOUT / "tools/testing/guest/dma_bench.py", share)
    return share


def xdp(context):
    """The same with xdp, and the scripts that send and receive."""
    share = _compiled(context, "xdp", "guest/xdp.c")
    for name in ("delivered.py", "pair.py", "reflected.py"):
        shutil.copy(CHECKOUT / "tools/testing/guest" / name, share)
    return share


def _compiled(context, name, source=None):
    share = context.directory / "share"
    share.mkdir()
    source = CHECKOUT / "tools/testing" / (source or name)
    sources = sorted(source.glob("*.c")) if source.is_dir() else [source]
    context.output("gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", share / name, *sources,
                   binds=[(share, share, False)])
    return share
