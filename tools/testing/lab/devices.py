# SPDX-License-Identifier: GPL-2.0
"""`--disk`, `--net`, `--virtio`, `--hotplug`: virtio devices for a VM, beside those the lab itself needs.

A device is a dict of properties, as both QEMU's command line and its monitor take it. A driver binds when guest-init.sh loads
it: the kernels here have these drivers as modules, and no udev. Drivers of the lab's own come first.
"""

import dataclasses
import json
import os
import re
import stat

from .errors import EXIT_USAGE, LabError

# Modules to be loaded for each kind of device.
DRIVERS = {
    "blk": ("virtio_blk",),
    "scsi": ("virtio_scsi", "sd_mod"),
    "net": ("virtio_net",),
    "rng": ("virtio_rng",),
    "gpu": ("virtio_gpu",),
    "balloon": ("virtio_balloon",),
    "console": ("virtio_console",),
}

# The port at one end of `--virtio console`, and the one at the other.
LOOP_PORTS = ("loop0", "loop1")

NO_ACCESS_PLATFORM = "no-access-platform"

# Options of a network, and what they come to.
NET_OPTIONS = {"no-mrg-rxbuf": {"mrg_rxbuf": False}, "packed": {"packed": True}}

SIZE_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclasses.dataclass
class Devices:
    """What the options of a VM come to."""

    # QEMU's arguments.
    arguments: list = dataclasses.field(default_factory=list)
    # Modules that the guest loads, after those of the lab's own.
    drivers: list = dataclasses.field(default_factory=list)
    # Files of the machine's to be seen in the sandbox: source, target, whether read-only.
    binds: list = dataclasses.field(default_factory=list)
    # Files of the sandbox's to be made: path and size.
    files: list = dataclasses.field(default_factory=list)
    # Devices of `--hotplug`, in order.
    hotplug: list = dataclasses.field(default_factory=list)
    # Is there a console whose ports are connected to each other?
    loop: bool = False

    def _object(self, option, properties):
        self.arguments += [f"-{option}", json.dumps(properties)]

    def _needs(self, kind):
        self.drivers += [name for name in DRIVERS[kind] if name not in self.drivers]


def described(options, directory):
    """The `Devices` of a command line; `directory` is one of the sandbox's own."""
    devices = Devices()
    for number, spec in enumerate(options.disk):
        for properties in _disk(devices, options.role, "--disk", spec, f"disk{number}", directory):
            devices._object("device", properties)
    for number, spec in enumerate(options.net):
        _net(devices, options.role, spec, number)
    for number, spec in enumerate(options.virtio):
        _other(devices, options, spec, f"virtio{number}")
    for number, spec in enumerate(options.hotplug):
        _hotplugged(devices, options.role, spec, number, directory)
    return devices


def _disk(devices, role, option, spec, name, directory):
    """Add a disk's backend; its devices."""
    words, platform = _split(role, option, spec)
    (kind, _, what), words = words[0].partition(":"), words[1:]
    queues, bus, readonly, more = None, "blk", False, {}
    for word in words:
        if match := re.fullmatch(r"queues=([1-9]\d?)", word):
            queues = int(match[1])
        elif word in ("bus=blk", "bus=scsi"):
            bus = word.removeprefix("bus=")
        elif word == "ro" and kind == "file":
            readonly = True
        elif word == "packed":
            more = {"packed": True}
        else:
            raise _error(option, spec, f"{word} is none of queues=N, bus=blk, bus=scsi, packed, {NO_ACCESS_PLATFORM}; file:PATH also takes ro")
    devices._object("blockdev", {"node-name": name, "read-only": readonly,
                                 **_backend(devices, option, spec, kind, what, f"{directory}/{name}", readonly)})
    devices._needs(bus)
    if bus == "blk":
        more |= {"num-queues": queues} if queues else {}
        return [{"driver": "virtio-blk-pci", "id": name, "drive": name, "serial": name, **more, **platform}]
    more |= {"num_queues": queues} if queues else {}
    return [{"driver": "virtio-scsi-pci", "id": f"{name}-bus", **more, **platform},
            {"driver": "scsi-hd", "id": name, "bus": f"{name}-bus.0", "drive": name, "serial": name}]


def _backend(devices, option, spec, kind, what, path, readonly):
    if kind == "null":
        return {"driver": "null-co", "size": _size(option, spec, what), "read-zeroes": True}
    if kind == "ram":
        devices.files.append((path, _size(option, spec, what)))
    elif kind == "file":
        if not os.path.exists(what) or not (stat.S_ISREG(mode := os.stat(what).st_mode) or stat.S_ISBLK(mode)):
            raise _error(option, spec, f"{what or 'nothing'} is not a file")
        devices.binds.append((os.path.realpath(what), path, readonly))
    else:
        raise _error(option, spec, "a disk is null:SIZE, ram:SIZE or file:PATH")
    return {"driver": "file", "filename": path}


def _net(devices, role, spec, number):
    (kind, *words), properties = _split(role, "--net", spec)
    if kind not in ("pair", "user"):
        raise _error("--net", spec, "a network is pair or user")
    for word in words:
        if word not in NET_OPTIONS:
            raise _error("--net", spec, f"{word} is none of {', '.join(NET_OPTIONS)}, {NO_ACCESS_PLATFORM}")
        properties = properties | NET_OPTIONS[word]
    names = [f"net{number}"] if kind == "user" else [f"net{number}a", f"net{number}b"]
    for end, name in enumerate(names):
        # A hub with two ports loses nothing: who has no room for a packet makes the other wait.
        backend = {"type": "user"} if kind == "user" else {"type": "hubport", "hubid": number}
        devices._object("netdev", {"id": name, **backend})
        devices._object("device", {"driver": "virtio-net-pci", "id": name, "netdev": name,
                                   "mac": f"52:54:00:5e:{number:02x}:{end + 1:02x}", **properties})
    devices._needs("net")


def _other(devices, options, spec, name):
    (kind, *words), platform = _split(options.role, "--virtio", spec)
    if words or kind not in ("rng", "gpu", "balloon", "console"):
        raise _error("--virtio", spec, f"a device is rng, gpu, balloon or console, with or without ,{NO_ACCESS_PLATFORM}")
    if kind == "gpu" and options.kernel != "debian":
        raise _error("--virtio", spec, "only the Debian kernel has a driver")
    more = {}
    if kind == "rng":
        devices._object("object", {"qom-type": "rng-builtin", "id": f"{name}-source"})
        more = {"rng": f"{name}-source"}
    driver = "virtio-serial-pci" if kind == "console" else f"virtio-{kind}-pci"
    devices._object("device", {"driver": driver, "id": name, **more, **platform})
    if kind == "console":
        if devices.loop:
            raise _error("--virtio", spec, "there is one console with connected ports")
        devices.loop = True
        for port in LOOP_PORTS:
            devices._object("device", {"driver": "virtserialport", "bus": f"{name}.0", "chardev": port, "name": f"lab.{port}"})
    devices._needs(kind)


def _hotplugged(devices, role, spec, number, directory):
    if role != "guest":
        raise _error("--hotplug", spec, "needs --role guest")
    parts = _disk(devices, role, "--hotplug", spec, f"plugged{number}", directory)
    if len(parts) > 1:
        raise _error("--hotplug", spec, "only bus=blk can be plugged in")
    if not devices.hotplug:
        # PCI Express' own way works with every kernel here; QEMU prefers ACPI's.
        devices.arguments += ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    devices._object("device", {"driver": "pcie-root-port", "id": f"port{number}", "chassis": number + 1, "slot": number + 1})
    devices.hotplug.append({**parts[0], "bus": f"port{number}"})


def loop_arguments(fds):
    """QEMU's arguments for the sockets behind LOOP_PORTS, which come before the devices."""
    return [word for port in LOOP_PORTS if port in fds for word in ("-chardev", f"socket,id={port},fd={fds[port]}")]


def _split(role, option, spec):
    """The words of a device's description but one, and the properties that this one changes."""
    words = spec.split(",")
    if NO_ACCESS_PLATFORM not in words:
        return words, {"iommu_platform": True, "disable-legacy": "on"} if role == "guest" else {}
    if role != "guest":
        raise _error(option, spec, f"{NO_ACCESS_PLATFORM} needs --role guest; elsewhere no device has ACCESS_PLATFORM")
    return [word for word in words if word != NO_ACCESS_PLATFORM], {"iommu_platform": False, "disable-legacy": "on"}


def _size(option, spec, text):
    match = re.fullmatch(r"([1-9]\d*)([KMGT]?)", text)
    size = int(match[1]) << SIZE_UNITS[match[2]] if match else 0
    if size % 512 or not 0 < size < 1 << 50:
        raise _error(option, spec, f"{text or 'nothing'} is not a size, as 64M or 2G are")
    return size


def _error(option, spec, why):
    return LabError(f"{option} {spec}: {why}", status=EXIT_USAGE)
