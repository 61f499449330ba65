# SPDX-License-Identifier: GPL-2.0
"""Every test of the cargo workspace, with the tool root's compiler."""

import re
import subprocess

from lab import programs, sandbox, toolroot
from lab.suites import Result

# `     Running unittests src/lib.rs (...)`, `   Doc-tests psp`
HEADING = re.compile(r"\s+(Running|Doc-tests) (.*?)( \(.*)?$")
TEST = re.compile(r"test (\S+)(?: - (.*))? \.\.\. (ok|FAILED)$")


def results(context):
    """Each test cargo runs is one."""
    # Ignored is only what needs the kernel's headers, and here they are.
    command = ["cargo", "test", "--locked", "--workspace", "--no-fail-fast", "--", "--include-ignored"]
    environment = {**programs.checks_environment(context.root), "KERNEL_HEADERS": f"{toolroot.linux_source()}/include"}
    process = sandbox.Sandbox(context.root, command, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, where = [], ""
    try:
        for line in process.process.stdout:
            lines.append(line)
            heading, test = HEADING.match(line), TEST.match(line)
            if heading:
                where = heading[2]
            elif test and test[3] == "ok":
                yield Result(f"{where}: {test[1]}", True)
            elif test:
                yield Result(f"{where}: {test[1]}", False, "see the output of cargo below")
        status = process.wait()
    except BaseException:
        process.kill()
        raise
    if status == 0:
        programs.keep_dependencies(context.root)
    yield Result("cargo test as a whole", status == 0, "".join(lines[-60:]))
