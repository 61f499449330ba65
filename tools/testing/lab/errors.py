# SPDX-License-Identifier: GPL-2.0
"""Errors and exit statuses of the lab."""

# Exit statuses of the lab itself; everything else is COMMAND's own. As timeout(1) and the like have them.
EXIT_TIMEOUT = 124
EXIT_LAB = 125
EXIT_USAGE = 2


class LabError(Exception):
    """Something the user can act on. Printed as one message, without a traceback.

    `log` names a file with the details, `status` is the exit status of the command.
    """

    def __init__(self, message, log=None, status=EXIT_LAB):
        super().__init__(message)
        self.log = log
        self.status = status


class Interrupted(BaseException):
    """A signal asked the lab to end. Not an `Exception`: nothing but the top level may swallow it."""

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum
