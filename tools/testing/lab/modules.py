# SPDX-License-Identifier: GPL-2.0
"""The project's kernel modules, built for a kernel and laid over its module directory."""

from . import cache, progress
from .paths import CHECKOUT, build_root, digest, digest_tree

SOURCES = tuple(CHECKOUT / name for name in (
    "Kbuild", "Kconfig", "drivers", "rust", "samples/shared-pages", "tools/testing/flip-bench", "tools/testing/dma-bench"))

# Files of a build tree that change whenever modules have to be built again.
TREE_STATE = (".config", "Module.symvers", "include/generated/autoconf.h")

# As `make modules_install` and the distribution's packages do it: updates/ comes before the kernel's own modules.
INSTALL = """
set -eu
release=$1 built=$2
mkdir -p "/lib/modules/$release/updates"
find "$built" -name '*.ko' -exec cp {} "/lib/modules/$release/updates/" \;
depmod "$release"
"""


def layer(root, kernel):
    """A layer for the tool root with the project's modules for `kernel`, and module indices that prefer them."""
    tree = kernel.build()
    state = [(tree / name).stat().st_mtime_ns for name in TREE_STATE]
    key = digest(root.name, str(tree), repr(state), INSTALL, digest_tree(*SOURCES))

    def build(new):
        output = objects(tree)
        with progress.Step("modules", f"Building the modules for {kernel.release}", lines=20) as step:
            step.run(root, ["make", "-C", tree, *kernel.make_arguments, f"M={CHECKOUT}", f"MO={output}", "-j2", "modules"],
                     layers=kernel.build_layers)
            step.run(root, ["sh", "-c", INSTALL, "sh", kernel.release, output], layers=kernel.layers, keep=new)

    return cache.entry("modules", key, "the modules", build, 200) / "files"


def objects(tree):
    """Where the modules' object files for a kernel build tree go: not into the checkout."""
    output = build_root() / f"modules-{digest(str(tree))}"
    output.mkdir(parents=True, exist_ok=True)
    return output
