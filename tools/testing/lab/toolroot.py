# SPDX-License-Identifier: GPL-2.0
"""The tool root: a Debian tree with the compiler, QEMU, the kernel and its source, made by mmdebstrap."""

import os

from . import cache, machine, progress, sandbox
from .paths import LAB, digest, read_versions

# What the tool root holds besides the kernel's own packages (toolroot-kernel.sh).
PACKAGES = (
    # kernel builds
    "gcc", "libc6-dev", "make", "bc", "bison", "flex", "libelf-dev", "libssl-dev", "pahole", "kmod", "cpio", "rsync",
    "perl", "xz-utils", "zstd", "python3-minimal", "python3",
    # Rust, in the kernel and outside
    "rustc", "rust-src", "rustfmt", "rust-clippy", "cargo", "bindgen", "pkg-config",
    # the VM, and what is at hand inside
    "qemu-system-x86", "busybox-static", "mount", "pciutils", "procps", "openssl", "ca-certificates",
)

# Programs that measure disks and networks.
IO_TOOLS = ("fio", "iperf3", "sockperf", "iproute2")

# Files of those packages nobody here needs: a third of the bytes.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
            "/usr/lib/llvm-*/lib/lib*.a", "/usr/src/rustc-{RUSTC}/compiler/*", "/usr/src/rustc-{RUSTC}/src/*")

# The versions the tool root depends on.
VERSIONS = ("SUITE", "BACKPORTS", "LINUX_SERIES", "LINUX_VERSION", "LINUX_RELEASE", "RUSTC")

# mmdebstrap's hooks: before the first package, and after the last, for the kernel.
HOOKS = ("toolroot-setup.sh", "toolroot-kernel.sh")

SPACE_MIB = 6000


def get():
    """The tool root's directory; makes it when missing.

    With KDIR set it needs no kernel, which the archive may not have any more; one that has it will do as well.
    """
    if not os.environ.get("KDIR"):
        return _entry(HOOKS)
    return cache.find("toolroot", _key(HOOKS)) or _entry(HOOKS[:1])


def linux_release(root):
    """The release of the distribution's kernel in the tool root, e.g. 7.3.4+deb13-amd64."""
    return (root / "etc/lab-linux").read_text().strip()


def linux_source():
    """The kernel's source, as a path inside the tool root: the user's own, or that of the distribution's kernel."""
    own = os.environ.get("KDIR")
    return os.path.realpath(own) if own else f"/usr/src/linux-source-{read_versions()['LINUX_SERIES']}"


# Packages installed into a layer of their own, and nothing else left in it.
INSTALL = """
set -eu
apt-get update
apt-get install -y --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


def packages_layer(root, name, packages):
    """A directory to be laid over the tool root, with more packages of the same suites."""
    def build(new):
        with progress.Step(f"layer-{name}", f"Installing {name}", lines=150) as step:
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            step.run(root, ["sh", "-c", INSTALL, "sh", *packages], env=environment, keep=new)

    return cache.entry(f"layer-{name}", digest(root.name, repr(packages), INSTALL), name, build, 1500) / "files"


def io_tools(root):
    """A layer with programs that measure disks and networks."""
    return packages_layer(root, "io-tools", IO_TOOLS)


def _key(hooks):
    return digest(repr(_versions()), repr(PACKAGES), repr(LEFT_OUT), *((LAB / hook).read_bytes() for hook in hooks))


def _entry(hooks):
    return cache.entry("toolroot", _key(hooks), "the tool root", lambda new: _build(new, _versions(), hooks), SPACE_MIB)


def _versions():
    return {name: read_versions()[name] for name in VERSIONS}


def _build(new, versions, hooks):
    machine.require("mmdebstrap", "mmdebstrap")
    mirror = machine.debian_mirror()
    with progress.Step("toolroot", "Making the tool root", lines=1500) as step:
        command = ["mmdebstrap", "--variant=apt", "--mode=root", "--format=directory", "--verbose",
                   f"--aptopt=APT::Default-Release \"{versions['BACKPORTS']}\"",
                   '--aptopt=APT::Install-Recommends "false"',
                   *(f"--aptopt={option}" for option in machine.apt_network_options()),
                   *(f"--dpkgopt=path-exclude={pattern.format(**versions)}" for pattern in LEFT_OUT),
                   f"--include={','.join(PACKAGES)}",
                   f"--setup-hook={LAB / hooks[0]}",
                   *(f"--customize-hook={LAB / hook}" for hook in hooks[1:]),
                   versions["SUITE"], str(new), *([mirror] if mirror else [])]
        step.run(None, command, env={**os.environ, **versions})
        rustc = sandbox.output(new, ["rustc", "--version"]).split()[1]
        if rustc != versions["RUSTC"]:
            step.fail(f"the tool root has rustc {rustc}, the kernel was built with {versions['RUSTC']}")
