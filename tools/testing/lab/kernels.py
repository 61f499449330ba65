# SPDX-License-Identifier: GPL-2.0
"""Kernels: the distribution's own with its Rust metadata regenerated, and ones built from its source."""

import os
from pathlib import Path

from . import cache, progress, toolroot
from .paths import digest

SPACE_MIB = 2000

# Debian's headers lack Rust metadata (libkernel.rmeta and so on). Made again from the same source, configuration and
# compiler it fits the shipped kernel; symbols and their versions come from the headers.
PREPARE_STOCK = """
set -eu
release=$1 source=$2 build=$3
headers=/usr/src/linux-headers-$release
cp "$headers/.config" "$headers/Module.symvers" "$build/"
make -C "$source" O="$build" KERNELRELEASE="$release" olddefconfig
diff -u "$headers/.config" "$build/.config" || echo "note: the configuration changed, see above"
make -C "$source" O="$build" -j"$(nproc)" KERNELRELEASE="$release" modules_prepare
cp "$headers/Module.symvers" "$build/"
test -e "$build/rust/libkernel.rmeta"
"""


def stock(root):
    """The build tree of the distribution's kernel, for `make -C`; prepares it when missing."""
    key = digest(root.name, PREPARE_STOCK)
    return cache.entry("kernel-debian", key, "the Debian kernel's build tree", lambda new: _prepare(root, new), SPACE_MIB)


def _prepare(root, new):
    with progress.Step("kernel-debian", "Preparing the Debian kernel for Rust modules", lines=500) as step:
        release = toolroot.linux_release(root)
        step.run(root, ["sh", "-c", PREPARE_STOCK, "sh", release, toolroot.linux_source(), str(new)])
