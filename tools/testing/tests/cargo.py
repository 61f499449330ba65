# SPDX-License-Identifier: GPL-2.0
"""Every test of the cargo workspace, with the tool root's compiler."""

import re
import subprocess

from lab import chance, programs, sandbox, toolroot
from lab.suites import Result

# `     Running unittests src/lib.rs (...)`, `   Doc-tests psp`
HEADING = re.compile(r"\s+(Running|Doc-tests) (.*?)( \(.*)?$")
TEST = re.compile(r"test (\S+)(?: - (.*))? \.\.\. (ok|FAILED)$")
# What failed tests printed comes after all tests of a program.
PRINTED = re.compile(r"---- (\S+)(?: - .*)? stdout ----$")
END = re.compile(r"test result: ")
# Of what a failed test printed: proptest begins with the panic and ends with the input, after all it tried between.
FIRST, LAST = 10, 80


def shortened(lines):
    """The beginning and the end."""
    if len(lines) > FIRST + LAST:
        lines = lines[:FIRST] + [f"[{len(lines) - FIRST - LAST} lines]\n"] + lines[-LAST:]
    return "".join(lines)


def results(context):
    """Each test cargo runs is one."""
    # Ignored is only what needs the kernel's headers, and here they are.
    command = ["cargo", "test", "--locked", "--workspace", "--no-fail-fast", "--", "--include-ignored"]
    environment = {**programs.checks_environment(context.root), **chance.cargo_environment(),
                   "KERNEL_HEADERS": f"{toolroot.linux_source()}/include"}
    process = sandbox.Sandbox(context.root, command, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, where, failed, printed = [], "", {}, []
    try:
        for line in process.process.stdout:
            lines.append(line)
            heading, test, output = HEADING.match(line), TEST.match(line), PRINTED.match(line)
            if heading:
                where = heading[2]
            elif test and test[3] == "ok":
                yield Result(f"{where}: {test[1]}", True)
            elif test:
                failed[test[1]] = []
            elif output:
                printed = failed.setdefault(output[1], [])
            elif END.match(line):
                for name, said in failed.items():
                    yield Result(f"{where}: {name}", False, shortened(said))
                failed, printed = {}, []
            else:
                printed.append(line)
        status = process.wait()
    except BaseException:
        process.kill()
        raise
    if status == 0:
        programs.keep_dependencies(context.root)
    yield Result("cargo test as a whole", status == 0, "".join(lines[-60:]))
