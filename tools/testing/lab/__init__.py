# SPDX-License-Identifier: GPL-2.0
"""The lab: everything that runs in QEMU. tools/lab is its command line, Documentation/lab.rst its manual."""
