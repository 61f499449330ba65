# SPDX-License-Identifier: GPL-2.0
"""The KUnit suites of the modules, in a kernel built for them. They run when the module is loaded."""

import re

from lab.suites import Result

SUITE = re.compile(r"\s*# Subtest: (\S+)$")
PLAN = re.compile(r"\s+1\.\.(\d+)$")
CASE = re.compile(r"\s+(not )?ok \d+ (\S+)(.*)$")


def ktap_lines(log):
    """The KTAP lines of a kernel log, without their time stamps."""
    inside = False
    for line in log.splitlines():
        text = re.sub(r"^\[ *\d+\.\d+\] ", "", line)
        inside = inside or text == "KTAP version 1"
        if inside:
            yield text
        if re.match(r"(not )?ok \d+ ", text):  # the line that ends a suite
            inside = True


def cases(lines):
    """(suite, case, passed, what was said before it) of each case; a case that is missing has not passed."""
    suite, planned, seen, said = "?", 0, 0, []
    for line in lines:
        begin, plan, case = SUITE.match(line), PLAN.match(line), CASE.match(line)
        if begin:
            suite, planned, seen, said = begin[1], 0, 0, []
        elif plan:
            planned = int(plan[1])
        elif case:
            seen += 1
            yield suite, case[2], not case[1], "\n".join(said)
            said = []
        elif re.match(r"(not )?ok \d+ ", line):
            yield from ((suite, f"case {number}", False, "it did not run") for number in range(seen + 1, planned + 1))
            planned = seen = 0
        else:
            said.append(line)
    yield from ((suite, f"case {number}", False, "it did not run") for number in range(seen + 1, planned + 1))


# The guest helper's run in a SEV guest, where pages have C-bits, and on a machine without; and where it copies by "rep movsb",
# and where not.
RUNS = {
    "host": ("--role", "host", "--", "sh", "-c", "modprobe virtio_sev_shim; dmesg"),
    "guest": ("--role", "guest", "--cpu-without", "erms,fsrm", "--", "dmesg"),
}


def results(context):
    """Each KUnit case is one, for each role."""
    for role, command in RUNS.items():
        run = context.lab("run", "--kernel", "kunit", "--append", "kunit.enable=1 kunit.autorun=1", *command)
        log = run.stdout.decode(errors="replace")
        lines = list(ktap_lines(log))
        shown = [line for line in lines if re.match(r"\s*(KTAP|#|1\.\.|ok|not ok)", line)]
        print("\n".join(f"     {line}" for line in shown), flush=True)
        found = 0
        for suite, case, passed, said in cases(lines):
            found += 1
            yield Result(f"{role}: {suite}: {case}", passed, said)
        detail = f"{found} cases, status {run.returncode}\n{run.stderr.decode(errors='replace')}\n{log[-4000:]}"
        yield Result(f"{role}: the kernel with the suites", run.returncode == 0 and found > 0, detail)
