# SPDX-License-Identifier: GPL-2.0
"""QEMU's command line for each role and processor model."""

from . import devices

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

# A SEV guest's kernel takes only virtio devices that go through its DMA API, and those must be modern ones.
THROUGH_DMA_API = ",iommu_platform=on,disable-legacy=on"


def command_line(spec, fds):
    """QEMU's arguments. `fds` are its ends of a pipe, console, and of the sockets: control, stdin, stdout, stderr, terminal, loop0 and loop1;
    in a guest host and, of the monitor and the plugin, qmp and orders."""
    host, guest = spec["role"] == "host", spec["role"] == "guest"
    virtio = THROUGH_DMA_API if guest else ""
    arguments = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
        "-M", "q35,memory-backend=ram,usb=off,vmport=off", "-accel", "tcg",
        "-cpu", CPUS[spec["model"]] + ("" if spec["role"] == "plain" else SEV_LEAVES) + "".join(f",-{flag}" for flag in spec["cpu_without"]),
        "-smp", str(spec["smp"]),
        *(_guest_memory(spec) if guest else _memory(spec)),
        "-kernel", spec["kernel"], "-initrd", spec["initrd"],
        # A kernel that counts timer interrupts under emulation on a busy machine may find too few, and panics.
        "-append", " ".join(["console=ttyS0", "panic=-1", "no_timer_check", *spec["append"]]),
        "-chardev", f"file,id=console,path=/proc/self/fd/{fds['console']}", "-serial", "chardev:console",
        "-device", f"virtio-serial-pci,max_ports=8{virtio}",
    ]
    for name in ("control", "host", "stdin", "stdout", "stderr"):
        if name in fds:
            arguments += ["-chardev", f"socket,id={name},fd={fds[name]}",
                          "-device", f"virtserialport,chardev={name},name=lab.{name}"]
    if "terminal" in fds:
        arguments += ["-chardev", f"socket,id=terminal,fd={fds['terminal']}", "-device", "virtconsole,chardev=terminal"]
    arguments += _directory("root", spec["root"], "on", virtio)
    if spec["share"]:
        arguments += _directory("share", spec["share"], "off", virtio)
    arguments += [*devices.loop_arguments(fds), *spec["devices"]["arguments"]]
    if "qmp" in fds:
        arguments += ["-chardev", f"socket,id=qmp,fd={fds['qmp']}", "-mon", "chardev=qmp,mode=control"]
    if spec["plugin"]:
        arguments += ["-plugin", _plugin(spec, fds)]
    if spec["secrets"]:
        arguments += ["-device", "loader,file={file},addr={address:#x},force-raw=on".format(**spec["secrets"])]
    for server in (*spec["psps"], *spec["vdevs"]):
        arguments += ["-device", '{"driver":"vfio-user-pci","socket":{"path":"%s","type":"unix"}}' % server["socket"]]
    return arguments


def _memory(spec):
    # The emulated PSP does DMA: it gets the guest's memory by descriptor.
    return ["-m", f"{spec['mem']}M", "-object", f"memory-backend-memfd,id=ram,size={spec['mem']}M,share=on"]


def _guest_memory(spec):
    """What the host sees too, from address 0; and from the C-bit on what the guest's processors see with the C-bit."""
    memory = spec["memory"]
    backend = f"memory-backend-file,size={spec['mem']}M,share=on"
    return ["-m", f"{spec['mem']}M,slots=1,maxmem={memory['end'] >> 20}M",
            "-object", f"{backend},id=ram,mem-path={memory['shared']}",
            "-object", f"{backend},id=private,mem-path={memory['private']}",
            # Not a DIMM: ACPI would announce it, and the kernel use it as more RAM. Nothing announces this one but its
            # virtio device, which has no driver here (run.py).
            "-device", f"virtio-pmem-pci,memdev=private,memaddr={memory['address']:#x}{THROUGH_DMA_API}"]


def _plugin(spec, fds):
    arguments = [spec["plugin"], f"role={spec['role']}"]
    if spec["role"] == "host":
        arguments += [f"model={spec['model']}", f"wbinvd={spec['wbinvd']}"]
    if spec["role"] == "guest":
        arguments += [f"orders={fds['orders']}", *(f"{name}={spec['memory'][name]}" for name in ("shared", "private"))]
        if spec["sev_status"]:
            arguments.append(f"status={spec['sev_status']}")
    if spec["count_instructions"]:
        arguments.append("instructions=count")
    return ",".join(arguments)


def _directory(tag, path, readonly, virtio):
    return ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap,readonly={readonly}",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}{virtio}"]
