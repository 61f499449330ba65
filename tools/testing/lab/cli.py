# SPDX-License-Identifier: GPL-2.0
"""The command line."""

import sys
from . import kernels, toolroot, sandbox

def main(argv):
    root = toolroot.get()
    if argv[0] == "exec":
        rest = argv[1:]
        if rest[:1] == ["--"]: rest = rest[1:]
        return sandbox.run(root, rest)
    if argv[0] == "kdir":
        print(kernels.stock(root))
        return 0
