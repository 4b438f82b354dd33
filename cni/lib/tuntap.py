"""Make a tap device that outlives its maker (include/uapi/linux/if_tun.h, Documentation/networking/tuntap.rst).

Netlink cannot: a tap comes from an ioctl on /dev/net/tun, in the network namespace that the caller is in when it opens
that file. Until it is made persistent it goes with the file, so a maker that is killed leaves none.
"""

from __future__ import annotations

import fcntl
from struct import Struct

from cni.lib.errors import CniError
from cni.lib.lean import os

DEVICE = "/dev/net/tun"
EXEC_LABEL = "/proc/thread-self/attr/exec"
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
TUNSETOWNER = 0x400454CC
TUNSETGROUP = 0x400454CE
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFREQ = Struct("=16sH22x")  # name, flags


def make_tap(name: str, flags: int, owner: int | None, group: int | None) -> None:
    """Make the device in the caller's namespace, with IFF_* `flags`, for a user and a group to open. Raises OSError."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags | IFF_TAP))
        if owner is not None:
            fcntl.ioctl(fd, TUNSETOWNER, _as_int(owner))
        if group is not None:
            fcntl.ioctl(fd, TUNSETGROUP, _as_int(group))
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def _as_int(number: int) -> int:
    """An unsigned number of 32 bits as the signed one of the same bits, which is what ioctl takes."""
    return number - (1 << 32) if number >> 31 else number


def make_labelled_tap(name: str, context: str, arguments: list[str]) -> None:
    """Make the device in an SELinux context: by iproute2's ip, which runs in that context. Raises CniError."""
    from cni.lib.process import find_program, run

    program = find_program("ip")
    if program is None:
        raise CniError("selinuxContext needs the program ip, and it is not there: install iproute2")
    _write_exec_label(context.encode("utf-8", "surrogateescape"))
    try:
        done = run([program, "tuntap", "add", "mode", "tap", "name", name, *arguments])
    except OSError as error:
        raise CniError(f"failed to run command {program}: {error.strerror}") from error
    finally:
        _write_exec_label(b"\n")  # none: what this process runs afterwards runs as it does
    if done.status != 0:
        said = (done.output + done.errors).decode("utf-8", "replace")
        raise CniError(f"failed to run command {said}: exit status {done.status}")


def _write_exec_label(label: bytes) -> None:
    """Choose the label of the next program that this thread runs (proc_pid_attr(5))."""
    try:
        fd = os.open(EXEC_LABEL, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, label)
        finally:
            os.close(fd)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise CniError(f"failed set socket label: write {EXEC_LABEL}: {reason}") from error
