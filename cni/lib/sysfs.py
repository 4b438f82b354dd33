"""The node's network devices by where they are plugged in (sysfs(5), Documentation/admin-guide/sysfs-rules.rst).

A device's directory has another one named net, in which there is an entry for each interface of it.
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.lean import os

PCI = "/sys/bus/pci/devices"
AUXILIARY = "/sys/bus/auxiliary/devices"
DEVICES = "/sys/devices/"
USERSPACE_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
"""Drivers that hand a device to a program (DPDK): the kernel has no interface of it then."""


def is_on(bus: str, device: str) -> bool:
    """Whether a bus (PCI or AUXILIARY) has a device of that address."""
    if "/" in device or device in ("", ".", ".."):
        return False
    try:
        os.stat(f"{bus}/{device}")
    except (OSError, ValueError):
        return False
    return True


def has_userspace_driver(address: str) -> bool:
    """Whether a program drives the PCI device. Raises CniError if there is no such device, or it has no driver."""
    path = f"{PCI}/{address}"
    if not is_on(PCI, address):
        raise CniError(f"lstat {path}: no such file or directory")
    try:
        driver = os.readlink(f"{path}/driver")
    except OSError as error:
        raise CniError(f"lstat {path}/driver: {(error.strerror or '').lower()}") from error
    return driver.rpartition("/")[2] in USERSPACE_DRIVERS


def pci_interface(address: str) -> str:
    """The name of the first interface of a PCI device; of a virtio device, it is one level below. Raises CniError."""
    path = f"{PCI}/{address}"
    try:
        names = sorted(os.listdir(path))
    except (OSError, ValueError):
        names = []
    virtio = [f"{name}/net" for name in names if name.startswith("virtio") and _exists(f"{path}/{name}/net")]
    found = ["net"] if "net" in names else virtio
    if not found:
        raise CniError(f"no net directory under pci device {address}")
    return _first_in(f"{path}/{found[0]}")


def auxiliary_interface(device: str) -> str:
    """The name of the first interface of a device on the auxiliary bus. Raises CniError."""
    return _first_in(f"{AUXILIARY}/{device}/net")


def kernel_path_interface(path: str) -> str:
    """The name of the first interface of the device with that directory. Raises CniError."""
    if not path.startswith(DEVICES):
        raise CniError(f'kernel device path "{path}" must be absolute and begin with {DEVICES}')
    return _first_in(f"{path.rstrip('/')}/net")


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _first_in(directory: str) -> str:
    try:
        names = os.listdir(directory)
    except OSError as error:
        reason = f"open {directory}: {(error.strerror or '').lower()}"
        raise CniError(f'failed to read directory {directory}: "{reason}"') from error
    if not names:
        raise CniError(f"failed to find network device in path {directory}")
    return min(names)
