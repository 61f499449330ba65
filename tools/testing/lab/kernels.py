# SPDX-License-Identifier: GPL-2.0
"""Kernels: the distribution's own with its Rust metadata regenerated, and ones built from its source."""

import dataclasses
from pathlib import Path

from . import cache, progress, toolroot
from .errors import LabError
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


@dataclasses.dataclass
class Kernel:
    """A kernel that can be booted, and built against."""

    release: str
    # The image, as a path in the tool root.
    image: str
    # Its build tree, for `make -C`.
    build: Path
    # lib/modules/RELEASE with the modules the initramfs needs.
    modules_dir: Path
    # Directories laid over the tool root, with modules.
    layers: tuple = ()


def get(root, name):
    """The kernel `name` (debian, kunit, debug); builds or prepares what is missing."""
    if name == "debian":
        release = toolroot.linux_release(root)
        return Kernel(release, f"/lib/modules/{release}/vmlinuz", None, root / "lib/modules" / release)
    raise LabError(f"the {name} kernel is not there yet")


def stock(root):
    """The build tree of the distribution's kernel, for `make -C`; prepares it when missing."""
    key = digest(root.name, PREPARE_STOCK)
    return cache.entry("kernel-debian", key, "the Debian kernel's build tree", lambda new: _prepare(root, new), SPACE_MIB)


def _prepare(root, new):
    with progress.Step("kernel-debian", "Preparing the Debian kernel for Rust modules", lines=500) as step:
        release = toolroot.linux_release(root)
        step.run(root, ["sh", "-c", PREPARE_STOCK, "sh", release, toolroot.linux_source(), str(new)])
