# SPDX-License-Identifier: GPL-2.0
"""Where things are: the checkout, the cache, the pinned versions."""

import hashlib
import os
from pathlib import Path

LAB = Path(__file__).resolve().parent
CHECKOUT = LAB.parents[2]


def cache_root():
    """The project's cache directory. Everything the lab keeps between commands is below it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base).resolve() / "linux-sev-rust"


def build_root():
    """Build outputs that belong to this checkout alone, such as cargo's target directory."""
    return cache_root() / "build" / digest(str(CHECKOUT))


def read_versions():
    """The pinned versions, as a dict."""
    lines = (LAB / "versions").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def digest(*parts):
    """A short name for a list of strings or bytes: the same parts, the same name."""
    h = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        h.update(len(part).to_bytes(8, "little") + part)
    return h.hexdigest()[:16]


def digest_tree(*roots):
    """A short name for the contents of files and directories (names, modes, bytes)."""
    parts = []
    for root in roots:
        root = Path(root)
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" in file.parts or "target" in file.relative_to(root).parts[:1]:
                continue
            executable = "x" if os.access(file, os.X_OK) else "-"
            parts += [str(file.relative_to(root.parent)), executable, file.read_bytes()]
    return digest(*parts)
