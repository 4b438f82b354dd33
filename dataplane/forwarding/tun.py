"""The TUN end: a network device whose wire is a file descriptor.

What the host routes into the device is read here, one IP packet a read; what is written here, the host receives as if
it had come in on that device (Linux Documentation/networking/tuntap.rst). The device carries bare IP packets: no
Ethernet header, no packet information header.

The device is made with several queues even where one is used: a queue more or less is then no reason to make it
anew. And it is persistent: it stays, with its addresses and routes, when the process that holds it ends, so
connections of pods outlive the daemon. Addresses, routes and MTU are not set here.
"""

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from types import TracebackType
from typing import Self

from dataplane.errors import NodeError
from dataplane.packets.batch import PacketBatch
from dataplane.packets.verdicts import Egress, Verdict

CLONE_DEVICE = "/dev/net/tun"

# include/uapi/linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_MULTI_QUEUE = 0x0100
IFF_VNET_HDR = 0x4000
TUNSETOWNER = 0x400454CC
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETSNDBUF = 0x400454D4
TUNSETVNETHDRSZ = 0x400454D8
TUNSETVNETLE = 0x400454DC
TUNSETSTEERINGEBPF = 0x800454E0
TUNSETFILTEREBPF = 0x800454E1
TUNSETCARRIER = 0x400454E2

_VNET_HEADER_LEN = 10
_PROPERTIES = (
    (TUNSETVNETHDRSZ, _VNET_HEADER_LEN),
    (TUNSETVNETLE, 0),
    (TUNSETSNDBUF, 2**31 - 1),
    (TUNSETSTEERINGEBPF, -1),
    (TUNSETFILTEREBPF, -1),
    (TUNSETCARRIER, 1),
)
"""What a persistent device keeps of its last user's wishes, each with what a new device has."""

_NAME = re.compile(r"(?!\.{1,2}$)[^\s/:%\0]{1,15}")
"""What the kernel takes as the name of a device (dev_valid_name); `%` would make it a pattern."""


class TunDevice:
    """One queue of a TUN device, non-blocking. Open the same name again for one more queue."""

    def __init__(self, name: str, fd: int) -> None:
        """Take over `fd`, a queue of the device `name`."""
        self.name = name
        self._fd = fd

    @classmethod
    def open(cls, name: str, *, vnet_header: bool = False) -> "TunDevice":
        """Attach to the TUN device `name` of this network namespace, making it first where there is none.

        With `vnet_header` each packet has a virtio-net header in front (IFF_VNET_HDR), for loops that want offloads;
        all queues of a device must agree. `read_batch` and `write_batch` are for queues without.

        Raises NodeError when that cannot be.
        """
        if not _NAME.fullmatch(name):
            raise NodeError(f"{name!r} cannot name a device; choose up to 15 characters without space, /, : or %")
        try:
            fd = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NodeError(_open_message(error)) from error
        flags = IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE | (IFF_VNET_HDR if vnet_header else 0)
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            # Without an owner anybody who may open the clone device can attach a queue and have pods' packets.
            fcntl.ioctl(fd, TUNSETOWNER, os.geteuid())
            fcntl.ioctl(fd, TUNSETPERSIST, 1)
            # A persistent device keeps the offloads that its last owner asked for, with or without that header.
            fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
            for request, value in _PROPERTIES:
                with contextlib.suppress(OSError):  # a kernel that does not know it cannot have kept it
                    fcntl.ioctl(fd, request, struct.pack("=i", value))
        except OSError as error:
            os.close(fd)
            raise NodeError(_attach_message(name, error)) from error
        return cls(name, fd)

    def fileno(self) -> int:
        """The descriptor, for poll and for engines with a loop of their own."""
        return self._fd

    def in_place(self) -> bool:
        """Whether the device is still there, under its name and in the calling thread's network namespace."""
        request = bytearray(40)
        try:
            fcntl.ioctl(self._fd, TUNGETIFF, request)
            name = request[:16].split(b"\0")[0].decode()
            return name == self.name and socket.if_nametoindex(name) > 0
        except OSError:
            return False

    def set_persistent(self, persistent: bool) -> None:
        """Whether the device outlives its last queue. Turn it off, then close, to have it gone."""
        with contextlib.suppress(OSError):  # of a device that is gone already
            fcntl.ioctl(self._fd, TUNSETPERSIST, int(persistent))

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full; returns the packets read.

        Raises OSError when the device is gone.
        """
        before = batch.count
        while not batch.full:
            try:
                length = os.readv(self._fd, [batch.free_slot()])
            except BlockingIOError:
                break
            batch.commit(length)
        return batch.count - before

    def write_batch(self, batch: PacketBatch) -> None:
        """Write all packets whose egress is the TUN. What the device refuses becomes WRITE_FAILED.

        An ICMP error that is refused keeps the verdict of the packet that it is about. Raises OSError when the device
        is gone.
        """
        for i in range(batch.count):
            if batch.egress[i] != Egress.TUN:
                continue
            try:
                os.write(self._fd, batch.packet(i))
            except OSError as error:
                if error.errno == errno.EBADFD:
                    raise
                if batch.verdict[i] == Verdict.FORWARDED:
                    batch.verdict[i] = Verdict.WRITE_FAILED

    def close(self) -> None:
        """Give the queue back."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_message(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"there is no {CLONE_DEVICE}; run `modprobe tun`, or start the container with --device {CLONE_DEVICE}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to open {CLONE_DEVICE}; run as root, or let this user's group have it"
    return f"cannot open {CLONE_DEVICE}: {error.strerror}"


def _attach_message(name: str, error: OSError) -> str:
    match error.errno:
        case errno.EPERM:
            return f"no permission to use the TUN device {name}; run as root, or with the capability CAP_NET_ADMIN"
        case errno.EBUSY:
            return f"the TUN device {name} is in use by another program; stop it, or choose another name with --tun"
        case errno.EINVAL:
            return (
                f"there is a device {name} that is not a TUN device of this kind; "
                f"remove it with `ip link delete {name}`, or choose another name with --tun"
            )
        case errno.E2BIG:
            return f"the TUN device {name} has no queue left; use fewer workers"
        case _:
            return f"cannot attach to the TUN device {name}: {error.strerror}"
