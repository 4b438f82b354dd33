"""Kernel settings under /proc/sys, those of the network namespace that the caller is in."""

from __future__ import annotations

from cni.lib.lean import os


def path(name: str) -> str:
    """The file of a setting written with slashes, such as net/ipv4/ip_forward."""
    return "/proc/sys/" + name


def read(name: str) -> str:
    """The setting's value. Raises OSError."""
    with open(path(name), encoding="utf-8") as file:
        return file.read().rstrip("\n")


def write(name: str, value: str) -> None:
    """Change a setting. Raises OSError. One open and one write: some of these files start work at each write."""
    fd = os.open(path(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def try_write(name: str, value: str) -> bool:
    """Change a setting that a kernel may lack (no IPv6, say); gives whether it could."""
    try:
        write(name, value)
    except OSError:
        return False
    return True
