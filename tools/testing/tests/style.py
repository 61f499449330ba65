# SPDX-License-Identifier: GPL-2.0
"""Formatting, clippy, checkpatch, licences, and what nothing else compiles."""

import subprocess

from lab import kernels, programs, sandbox, toolroot
from lab.paths import CHECKOUT
from lab.suites import Failure

# checkpatch's opinions that do not fit: a project beside the kernel has no MAINTAINERS entry, and its lines are as
# long as rustfmt.toml says. Functions that exports.c exports are Rust, and its macro names them twice.
CHECKPATCH = ("--no-tree", "--no-summary", "--terse", "--show-types", "--max-line-length=120", "--ignore",
              "FILE_PATH_CHANGES,EMAIL_SUBJECT,CONFIG_DESCRIPTION,SPLIT_STRING,SPDX_LICENSE_TAG,EXPORT_SYMBOL,MACRO_ARG_REUSE")
# Nor do these for programs: the types are the C library's, and the names of commands look like functions'.
CHECKPATCH_PROGRAMS = ("--ignore", "NEW_TYPEDEFS,PREFER_DEFINED_ATTRIBUTE_MACRO,MACRO_ARG_UNUSED,EMBEDDED_FUNCTION_NAME")


def tracked(*patterns):
    """The repository's files that match."""
    listing = subprocess.run(["git", "-C", CHECKOUT, "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", *patterns],
                             stdout=subprocess.PIPE, check=True).stdout
    return [name for name in listing.decode().split("\0") if name and (CHECKOUT / name).is_file()]


def run(context, *command, **options):
    """Run a command in the tool root; fail with its output."""
    process = sandbox.Sandbox(context.root, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, **options)
    try:
        output = process.process.stdout.read()
        status = process.wait()
    except BaseException:
        process.kill()
        raise
    if status:
        raise Failure(output)


def test_rust_is_formatted(context):
    run(context, "rustfmt", "--check", "--edition", "2021", "--config", "skip_children=true", *tracked("*.rs"))


def test_clippy_is_content(context):
    run(context, "cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings",
        env=programs.checks_environment(context.root))


def test_the_fuzz_targets_compile(context):
    """A workspace of its own, which nothing else here compiles. libFuzzer, which is not linked with, need not be built."""
    run(context, "sh", "-c", f"cd {CHECKOUT}/tools/testing/psp-emu/fuzz && exec cargo check --locked --bins",
        env={**programs.checks_environment(context.root), "CUSTOM_LIBFUZZER_PATH": "/nowhere"})


def test_clippy_is_content_with_the_kernels_flags(context):
    build = kernels.get(context.root, "debian").build()
    output = sandbox.output(context.root, ["make", "-C", build, f"M={CHECKOUT}", f"MO={context.directory}", "CLIPPY=1", "modules"],
                            binds=[(context.directory, context.directory, False)], stderr=subprocess.STDOUT)
    if "warning:" in output:
        raise Failure(output)


def test_checkpatch_is_content(context):
    checkpatch = f"{toolroot.linux_source()}/scripts/checkpatch.pl"
    kernel = tracked("drivers/*.c", "drivers/*.h", "Kconfig", "Kbuild")
    user_space = [name for name in tracked("*.c", "*.h") if name not in kernel]
    run(context, checkpatch, "--strict", *CHECKPATCH, "--file", *kernel)
    run(context, checkpatch, *CHECKPATCH, *CHECKPATCH_PROGRAMS, "--file", *user_space)


def test_every_file_names_its_licence(context):
    """SPDX in the first lines; binary files, lock files and the licence itself are exempt."""
    exempt = (".lock", ".bin", ".cert", ".pem", ".key", ".gitkeep")
    missing = []
    for name in tracked():
        if name == "COPYING" or name.endswith(exempt) or "/keys/" in name:
            continue
        head = (CHECKOUT / name).read_bytes()[:400]
        if b"SPDX-License-Identifier: GPL-2.0" not in head and b"\0" not in head:
            missing.append(name)
    if missing:
        raise Failure(f"no SPDX line: {', '.join(missing)}")


def test_shell_scripts_parse(context):
    for name in tracked("*.sh", ".ci/run"):
        run(context, "sh", "-n", name)
