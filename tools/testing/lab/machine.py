# SPDX-License-Identifier: GPL-2.0
"""The machine the lab runs on: its packages, its mirror, its rights."""

import os
import re
import shutil
import subprocess
import sys

from . import progress
from .errors import LabError


# What must not get lost on the way through sudo.
KEPT_BY_SUDO = ("HOME", "PATH", "TERM", "KDIR", "DEBIAN_MIRROR", "XDG_CACHE_HOME", "http_proxy", "https_proxy", "no_proxy",
                "SSL_CERT_FILE", "SSL_CERT_DIR", "SEV_CYCLES", "SEV_HOSTILE", "SEV_SEED", "SEV_SOAK_SECONDS",
                "SEV_EXHAUST_SECONDS", "SEV_STORM_SECONDS")


def become_root():
    """Go on as root: of a user namespace where that works, else with sudo. Returns only to root."""
    if os.geteuid() == 0:
        return
    require("mmdebstrap", "mmdebstrap")
    namespace = ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
    try:
        works = subprocess.run([*namespace, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise LabError("unshare is missing; install util-linux, or run this as root") from error
    here = [sys.executable, *sys.argv]
    if works.returncode == 0:
        os.execvp(namespace[0], [*namespace, *here])
    if shutil.which("sudo"):
        kept = [f"{name}={os.environ[name]}" for name in KEPT_BY_SUDO if name in os.environ]
        os.execvp("sudo", ["sudo", "env", *kept, *here])
    raise LabError(f"this needs root, sudo, or user namespaces with subordinate ids (package uidmap): {works.stdout.strip()}")


def require(program, package):
    """See to it that `program` is there, installing `package` with apt when it is not and may be."""
    if shutil.which(program):
        return
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if not shutil.which("apt-get") or (as_root and not shutil.which("sudo")):
        raise LabError(f"{program} is missing; install the package {package}, or run this as root or with sudo")
    with progress.Step(f"apt-{package}", f"Installing {package}", lines=40) as step:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        step.run(None, [*as_root, "apt-get", "update"], env=environment)
        step.run(None, [*as_root, "apt-get", "install", "-y", "--no-install-recommends", package], env=environment)


def debian_mirror():
    """The mirror to take Debian from: DEBIAN_MIRROR, or the one the machine's apt uses, or None (mmdebstrap's)."""
    if os.environ.get("DEBIAN_MIRROR"):
        return os.environ["DEBIAN_MIRROR"]
    fields = "$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)|$(LABEL)"
    targets = _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    for target in targets.splitlines():
        uri, codename, component, origin, label = (target.split("|") + [""] * 5)[:5]
        if (component, origin, label) == ("main", "Debian", "Debian") and re.fullmatch("[a-z]+", codename):
            return uri.rstrip("/")
    return None


def apt_network_options():
    """The machine's apt settings for proxies and certificates, for the apt that makes the tool root."""
    wanted = re.compile(r'Acquire::https?::(Proxy|CAInfo|CAPath|Verify-[A-Za-z]+)[^ ]* ".+";')
    return [line.rstrip(";") for line in _output("apt-config", "dump").splitlines() if wanted.fullmatch(line)]


def _output(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    except FileNotFoundError:
        return ""
