# SPDX-License-Identifier: GPL-2.0
"""The number that all chance in the suites follows from.

The same one each time, unless somebody asks for others: a change is not to fail on what chance found in another's code.
"""

import os
import random

DEFAULT = 1


def seed():
    """SEV_SEED, which may be "any"."""
    wanted = os.environ.get("SEV_SEED") or DEFAULT
    return random.randrange(1 << 32) if wanted == "any" else int(wanted)


def cargo_environment():
    """The seed for what the tests of the cargo workspace draw lots with."""
    return dict.fromkeys(("PROPTEST_RNG_SEED", "SHUTTLE_RANDOM_SEED"), str(seed()))
