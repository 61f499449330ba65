# SPDX-License-Identifier: GPL-2.0
"""For tests: what a terminal shows."""

import os
import select

from .suites import Failure

# TIMEOUT: a boot on a busy machine.
READ_SECONDS = 120


def read_until(terminal, end):
    """What a terminal shows up to `end`, or all of it when the other side closes."""
    output = b""
    try:
        while end not in output:
            if not select.select([terminal], [], [], READ_SECONDS)[0]:
                raise Failure(f"nothing came for {READ_SECONDS} s after {output!r}")
            output += os.read(terminal, 4096)
    except OSError:  # closed
        pass
    return output
