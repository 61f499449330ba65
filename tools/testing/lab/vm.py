# SPDX-License-Identifier: GPL-2.0
"""QEMU's command line for each role and processor model."""

# QEMU's CPU for each EPYC generation, in order of appearance.
CPUS = {
    "naples": "EPYC",
    "rome": "EPYC-Rome",
    "milan": "EPYC-Milan",
    "genoa": "EPYC-Genoa",
    "turin": "EPYC-Turin",
}

# xlevel: the highest extended CPUID leaf; 0x8000001f is the one that tells of memory encryption.
SEV_LEAVES = ",xlevel=0x8000001f"


def command_line(spec, fds):
    """QEMU's arguments. `fds` are its ends of the sockets: console, control, stdin, stdout, stderr, terminal."""
    memory = f"{spec['mem']}M"
    host = spec["role"] == "host"
    arguments = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
        "-M", "q35,memory-backend=ram,usb=off,vmport=off", "-accel", "tcg",
        "-cpu", CPUS[spec["model"]] + (SEV_LEAVES if host else ""),
        "-m", memory, "-smp", str(spec["smp"]),
        # The emulated PSP does DMA: it gets the guest's memory by descriptor.
        "-object", f"memory-backend-memfd,id=ram,size={memory},share=on",
        "-kernel", spec["kernel"], "-initrd", spec["initrd"],
        # A kernel that counts timer interrupts under emulation on a busy machine may find too few, and panics.
        "-append", " ".join(["console=ttyS0", "panic=-1", "no_timer_check", *spec["append"]]),
        "-chardev", f"socket,id=console,fd={fds['console']}", "-serial", "chardev:console",
        "-device", "virtio-serial-pci,max_ports=8",
    ]
    for name in ("control", "stdin", "stdout", "stderr"):
        if name in fds:
            arguments += ["-chardev", f"socket,id={name},fd={fds[name]}",
                          "-device", f"virtserialport,chardev={name},name=lab.{name}"]
    if "terminal" in fds:
        arguments += ["-chardev", f"socket,id=terminal,fd={fds['terminal']}", "-device", "virtconsole,chardev=terminal"]
    arguments += _directory("root", spec["root"], readonly=True)
    if spec["share"]:
        arguments += _directory("share", spec["share"], readonly=False)
    if host:
        counting = ",instructions=count" if spec["count_instructions"] else ""
        arguments += ["-plugin", f"{spec['plugin']},role=host,model={spec['model']},wbinvd={spec['wbinvd']}{counting}"]
        for psp in spec["psps"]:
            arguments += ["-device", '{"driver":"vfio-user-pci","socket":{"path":"%s","type":"unix"}}' % psp["socket"]]
    return arguments


def _directory(tag, path, readonly):
    access = "on" if readonly else "off"
    return ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap,readonly={access}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
