# SPDX-License-Identifier: GPL-2.0
"""Kernels: the distribution's own with its Rust metadata regenerated, ones built from its source, the user's own."""

import dataclasses
import os
import re
from pathlib import Path

from . import cache, progress, sandbox, toolroot
from .errors import LabError
from .paths import CHECKOUT, build_root, digest

FRAGMENTS = CHECKOUT / "tools/testing/kernel"

# The kernels built here: their configuration fragments, and what their compiler needs. KASAN and Rust together want
# clang, which the tool root itself does not have.
OWN = {
    "kunit": ("kunit.config",),
    "debug": ("kunit.config", "debug.config"),
}
CLANG = ("clang-19", "lld-19", "llvm-19")

# Debian's headers lack Rust metadata (libkernel.rmeta and so on). Made again from the same source, configuration and
# compiler it fits the shipped kernel; symbols and their versions come from the headers.
PREPARE_STOCK = """
set -eu
release=$1 source=$2 build=$3
headers=/usr/src/linux-headers-$release
cp "$headers/.config" "$build/"
make -C "$source" O="$build" KERNELRELEASE="$release" olddefconfig
diff -u "$headers/.config" "$build/.config" || echo "note: the configuration changed, see above"
make -C "$source" O="$build" -j"$(nproc)" KERNELRELEASE="$release" modules_prepare
cp "$headers/Module.symvers" "$build/"
test -e "$build/rust/libkernel.rmeta"
"""

BUILD_OWN = """
set -eu
source=$1 out=$2 name=$3 make=$4
shift 4
build=$out/build
mkdir "$build"
cat "$@" >"$build/fragment"
make="$make -C $source O=$build"
KCONFIG_ALLCONFIG="$build/fragment" $make allnoconfig
echo "-$name" >"$build/localversion-lab"
# A symbol may have been renamed, or lack something it depends on.
grep "^CONFIG_" "$build/fragment" | while read -r line; do
	grep -qx "$line" "$build/.config" || echo "$line did not take effect"
done >"$build/missing"
if [ -s "$build/missing" ]; then cat "$build/missing"; exit 1; fi
$make -j"$(nproc)" bzImage modules
$make INSTALL_MOD_PATH="$out/layer/usr" INSTALL_MOD_STRIP=1 modules_install
cp "$build/arch/x86/boot/bzImage" "$out/"
rm -f "$build/vmlinux" "$build/vmlinux.unstripped" "$build/vmlinux.o" "$build/vmlinux.a"
find "$build" -name '*.o' -o -name '*.a' | grep -v -e /scripts/ -e /tools/ | xargs rm -f
"""


@dataclasses.dataclass
class Kernel:
    """A kernel that can be booted, and built against."""

    release: str
    # The image, as a path in the tool root.
    image: str
    # lib/modules/RELEASE with the modules the initramfs needs.
    modules_dir: Path
    # A function for the build tree, for `make -C`: the distribution's takes a while, and not everybody needs it.
    build: object
    # Directories laid over the tool root, with modules.
    layers: tuple = ()
    # Directories laid over the tool root for building, and arguments for make.
    build_layers: tuple = ()
    make_arguments: tuple = ()


def get(root, name):
    """The kernel `name` (debian, kunit, debug), or the user's own when KDIR is set; builds what is missing."""
    if os.environ.get("KDIR"):
        return _users(root, os.environ["KDIR"])
    if name == "debian":
        release = toolroot.linux_release(root)
        return Kernel(release, str(_unpacked(root, release)), root / "lib/modules" / release, lambda: stock(root))
    return _own(root, name)


def stock(root):
    """The build tree of the distribution's kernel, for `make -C`; prepares it when missing."""
    def build(new):
        with progress.Step("kernel-debian", "Preparing the Debian kernel for Rust modules", lines=1700) as step:
            release = toolroot.linux_release(root)
            step.run(root, ["sh", "-c", PREPARE_STOCK, "sh", release, toolroot.linux_source(), new])

    return cache.entry("kernel-debian", digest(root.name, PREPARE_STOCK), "the Debian kernel's build tree", build, 2000)


def _unpacked(root, release):
    """The distribution's kernel without its compression: a quarter of the boot would go into unpacking it under TCG."""
    def build(new):
        with progress.Step("vmlinux", f"Unpacking Linux {release}", lines=1) as step:
            script = f'{toolroot.linux_source()}/scripts/extract-vmlinux "$1" >"$2"'
            step.run(root, ["sh", "-c", script, "sh", f"/lib/modules/{release}/vmlinuz", new / "vmlinux"])

    return cache.entry("vmlinux", digest(root.name, release), "the unpacked kernel", build, 200) / "vmlinux"


def _own(root, name):
    clang = name == "debug"
    layers = (toolroot.packages_layer(root, "clang", CLANG),) if clang else ()
    make = ("LLVM=-19",) if clang else ()
    fragments = [FRAGMENTS / fragment for fragment in OWN[name]]
    key = digest(root.name, BUILD_OWN, repr(make), *(fragment.read_bytes() for fragment in fragments))

    def build(new):
        with progress.Step(f"kernel-{name}", f"Building the {name} kernel", lines=1700) as step:
            step.run(root, ["sh", "-c", BUILD_OWN, "sh", toolroot.linux_source(), new, name, " ".join(("make", *make)),
                            *fragments], layers=layers)

    out = cache.entry(f"kernel-{name}", key, f"the {name} kernel", build, 4000)
    modules_dir = next((out / "layer/usr/lib/modules").iterdir())
    return Kernel(modules_dir.name, str(out / "bzImage"), modules_dir, lambda: out / "build", (out / "layer",), layers, make)


def _users(root, tree):
    """A kernel tree of the user's own: its image and its modules, as they are now."""
    tree = Path(os.path.realpath(tree))
    image = tree / "arch/x86/boot/bzImage"
    release = tree / "include/config/kernel.release"
    for needed, how in ((tree / ".config", "a configuration"), (image, "a built image"), (release, "a built kernel"),
                        (tree / "rust/libkernel.rmeta", "Rust (CONFIG_RUST)")):
        if not needed.exists():
            raise LabError(f"KDIR={tree} is not a kernel tree with {how}: {needed} is missing")
    release = release.read_text().strip()
    clang = re.search(r"^CONFIG_CC_IS_CLANG=y$", (tree / ".config").read_text(), re.MULTILINE)
    make = ("LLVM=-19",) if clang else ()
    layers = (toolroot.packages_layer(root, "clang", CLANG),) if clang else ()
    layer = build_root() / f"kdir-{digest(str(tree))}"
    with cache.locked(f"kdir-{digest(str(tree))}", "the modules of KDIR"):
        with progress.Step("kdir", f"Installing the modules of {tree}", lines=100) as step:
            cache.remove(layer)
            step.run(root, ["make", "-C", tree, *make, f"INSTALL_MOD_PATH={layer}/usr", "modules_install"], layers=layers)
    return Kernel(release, str(image), layer / "usr/lib/modules" / release, lambda: tree, (layer,), layers, make)
