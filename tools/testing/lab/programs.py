# SPDX-License-Identifier: GPL-2.0
"""User-space programs built by the tool root's cargo: the emulated PSP, a virtio device, the QEMU plugin, sev-map, sevctl, sev-launch."""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

from . import cache, progress, sandbox
from .paths import CHECKOUT, build_root, cache_root, digest, digest_tree, read_versions

TESTING = CHECKOUT / "tools/testing"

# For code that is compiled more often than it is debugged: half the time to link, a quarter of the bytes.
SMALL = {"CARGO_PROFILE_DEV_DEBUG": "line-tables-only", "CARGO_INCREMENTAL": "0"}

SPACE_MIB = 1500

# These tools do little work themselves. They would compile an OpenSSL of their own, and optimise some 200 crates.
QUICKLY = {"OPENSSL_NO_VENDOR": "1", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_DEBUG": "0"}


def psp_emu(root):
    """The emulated PSP's program; builds it when missing or out of date."""
    return _psp_emu(root) / "psp-emu"


def make_firmware(root):
    """The program that makes firmware images for the emulated PSP."""
    return _psp_emu(root) / "make-firmware"


def _psp_emu(root):
    sources = (CHECKOUT / "rust/psp", TESTING / "psp-emu", TESTING / "vfio-device")
    return _built(root, "psp-emu", sources, ("psp-emu", "make-firmware"), "the emulated PSP", lines=120)


def vdev(root):
    """The program that is one virtio device."""
    return _built(root, "vdev", (TESTING / "vdev", TESTING / "vfio-device"), ("vdev",), "the virtio device", lines=70) / "vdev"


def sev_cpu(root):
    """The QEMU plugin."""
    plugin = "libsev_cpu.so"
    return _built(root, "sev-cpu", (CHECKOUT / "rust/memenc", TESTING / "sev-cpu"), (plugin,), "the QEMU plugin", lines=5) / plugin


def sev_map(root):
    """The program that draws which pages of a guest are shared."""
    sources = (CHECKOUT / "rust/memenc", TESTING / "sev-map", TESTING / "sev-cpu/src/filling.rs")
    return _built(root, "sev-map", sources, ("sev-map",), "sev-map", lines=40) / "sev-map"


def sevctl(root):
    """A layer for the tool root with the pinned release of sevctl in /usr/local/bin."""
    return _installed(root, "sevctl", lines=220)


def snpguest(root):
    """A layer for the tool root with the pinned release of snpguest in /usr/local/bin."""
    return _installed(root, "snpguest", lines=320)


def _installed(root, name, lines):
    version = read_versions()[name.upper()]

    def build(new):
        with progress.Step(name, f"Building {name} {version}", lines=lines) as step:
            step.run(root, ["cargo", "install", "--locked", "--no-track", name, "--version", version,
                            "--root", new / "usr/local"], env={**cargo_environment(new / "target"), **QUICKLY})
            shutil.rmtree(new / "target")

    return cache.entry(name, digest(root.name, version, repr(QUICKLY)), name, build, SPACE_MIB)


def sev_launch(root):
    """A layer for the tool root with the sample sev-launch in /usr/local/bin."""
    sources = (CHECKOUT / "samples/sev-launch",)
    return _built(root, "sev-launch", sources, ("sev-launch",), "sev-launch", lines=150, into="usr/local/bin")


def checks_environment(root):
    """The environment for cargo's checks and tests of this checkout, whose target directory is the checkout's own.

    In a new checkout it begins with a copy of the dependencies' objects, which are most of the work. A copy, because tests find
    the programs they start by their place in the target directory: two checkouts cannot share one.
    """
    target = _checks()
    with cache.locked("checks", "the dependencies' objects"):
        kept = None if target.exists() else cache.find("dependencies", _dependencies_key(root))
        if kept:
            copy = target.with_suffix(".new")
            cache.remove(copy)
            _copy(kept / "target", copy)
            copy.rename(target)
    return {**cargo_environment(target), **SMALL}


def keep_dependencies(root):
    """Keep the dependencies' objects for the next checkout. To be called when everything has been compiled."""
    def build(new):
        environment = {**cargo_environment(new / "target"), **SMALL}
        with progress.Step("dependencies", "Keeping the dependencies' objects", lines=10) as step:
            with open(_checks() / "debug/.cargo-lock") as lock:  # cargo's own
                fcntl.flock(lock, fcntl.LOCK_EX)
                _copy(_checks(), new / "target")
            own = _members(root, environment)
            step.run(root, ["cargo", "clean", "--offline", *(f"--package={name}" for name in own)], env=environment)

    cache.entry("dependencies", _dependencies_key(root), "the dependencies' objects", build, SPACE_MIB)


def _checks():
    return build_root() / "checks"


def _dependencies_key(root):
    return digest(root.name, digest_tree(CHECKOUT / "Cargo.toml", CHECKOUT / "Cargo.lock"), repr(SMALL))


def _members(root, environment):
    """The names of the workspace's own packages."""
    metadata = sandbox.output(root, ["cargo", "metadata", "--offline", "--no-deps", "--format-version=1"], env=environment)
    return [package["name"] for package in json.loads(metadata)["packages"]]


def _copy(directory, new):
    new.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", directory, new], check=True)


def cargo_environment(target=None):
    """The environment for cargo in the tool root: crates are kept in the cache, the user's configuration applies."""
    home = cache_root() / "cargo"
    home.mkdir(parents=True, exist_ok=True)
    users = Path(os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo"))
    for name in ("config.toml", "config"):
        if (users / name).is_file():
            shutil.copyfile(users / name, home / "config.toml")
            break
    else:
        (home / "config.toml").unlink(missing_ok=True)
    return {"CARGO_HOME": str(home), "CARGO_TARGET_DIR": str(target or build_root() / "target"), "CARGO_TERM_COLOR": "never"}


def _built(root, package, sources, products, title, lines, into="."):
    """A cache entry with the products of one of the workspace's packages in its directory `into`."""
    manifests = (CHECKOUT / "Cargo.toml", CHECKOUT / "Cargo.lock")
    key = digest(root.name, into, *products, digest_tree(*sources, *manifests))

    def build(new):
        with progress.Step(package, f"Building {title}", lines) as step:
            step.run(root, ["cargo", "build", "--locked", "--release", "--package", package], env=cargo_environment())
            (new / into).mkdir(parents=True, exist_ok=True)
            for product in products:
                shutil.copy(build_root() / "target/release" / product, new / into)

    return cache.entry(package, key, title, build, SPACE_MIB)
