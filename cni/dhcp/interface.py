"""A pod's interface as the daemon reaches it: raw datagrams out and in, its address and routes, its carrier.

The daemon lives on the host. It holds neither the pod's namespace nor a socket in it while a lease is at rest, so
that a pod that vanishes is gone; it opens the namespace by its path when there is something to do, and recognises it
by its inode, since a path may come to name another pod's.

What is sent leaves through a packet socket, which needs no address on the interface; a filter in the kernel leaves
the pod's other traffic alone.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from cni.dhcp.lease import Lease
from cni.dhcp.message import CLIENT_PORT, SERVER_PORT, MessageError, unwrap
from cni.lib.addresses import KernelRoute, add_address, delete_address, replace_route
from cni.lib.errors import CniError
from cni.lib.links import IFLA_ADDRESS, Link, find_link, set_up
from cni.lib.netlink import NetlinkError, NetlinkSocket
from cni.lib.netns import Netns

_EEXIST = 17
_ETH_P_IP = 0x0800
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_CHECKSUM_NOT_READY = 8  # TP_STATUS_CSUMNOTREADY: sent by this host, which has left the UDP checksum to the device
_SO_ATTACH_FILTER = 26
_RTMGRP_LINK = 1
_IFF_RUNNING = 0x40
_RECEIVE_BYTES = 65536
_BROADCAST_HARDWARE = b"\xff" * 6

# A classic BPF program over the IPv4 packet: (code, jump if true, jump if false, constant), see bpf(2) and
# Documentation/networking/filter.rst. It accepts UDP, not a later fragment, destination port 68.
_FILTER = (
    (0x30, 0, 0, 9),  # load the protocol
    (0x15, 0, 6, socket.IPPROTO_UDP),
    (0x28, 0, 0, 6),  # load flags and fragment offset
    (0x45, 4, 0, 0x1FFF),
    (0xB1, 0, 0, 0),  # X = length of the IPv4 header
    (0x48, 0, 0, 2),  # load the destination port
    (0x15, 0, 1, CLIENT_PORT),
    (0x06, 0, 0, 0xFFFFFFFF),  # accept all of it
    (0x06, 0, 0, 0),  # drop
)


class InterfaceGoneError(Exception):
    """The namespace or the interface in it is not there any more."""


def namespace_id(netns: Netns) -> tuple[int, int]:
    """What tells one network namespace from another, whatever the path."""
    status = os.fstat(netns.fd)
    return status.st_dev, status.st_ino


class PodInterface:
    """One interface in a pod, open for work; use it as a context and let it go again."""

    def __init__(self, netns_path: str, ifname: str, expected: tuple[int, int] | None = None) -> None:
        """Open the namespace and find the interface. Raises InterfaceGoneError."""
        self.name = ifname
        try:
            self._netns = Netns(netns_path)
        except CniError as error:
            raise InterfaceGoneError(error.msg) from error
        self._netlink = self._netns.netlink()
        try:
            self.namespace = namespace_id(self._netns)
            if expected not in (None, self.namespace):
                raise InterfaceGoneError(f"{netns_path} is another namespace by now")
            link = find_link(self._netlink, ifname)
            if link is None:
                raise InterfaceGoneError(f'error looking up "{ifname}": Link not found')
        except BaseException:
            self.close()
            raise
        self.link = link

    def __enter__(self) -> PodInterface:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the namespace."""
        self._netlink.close()
        self._netns.close()

    @property
    def hardware(self) -> bytes:
        """The interface's hardware address."""
        return self.link.attributes.get(IFLA_ADDRESS, b"")

    def set_up(self) -> None:
        """ip link set up"""
        set_up(self._netlink, self.link.index)

    @property
    def has_carrier(self) -> bool:
        """Whether what is sent would arrive anywhere; as of the moment when the interface was opened."""
        return bool(self.link.flags & _IFF_RUNNING)

    def watch(self) -> socket.socket:
        """A socket that becomes readable whenever a link in the namespace changes."""
        with self._netns:
            watcher = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        watcher.setblocking(False)
        watcher.bind((0, _RTMGRP_LINK))
        return watcher

    def open_port(self) -> Port:
        """A packet socket on the interface."""
        with self._netns:
            return Port(self.name)

    def configure(self, lease: Lease) -> None:
        """Give the interface the lease's address and routes. Raises OSError."""
        assert lease.net is not None
        try:
            add_address(self._netlink, self.link.index, lease.net)
        except NetlinkError as error:
            if error.errno != _EEXIST:
                raise
        for route in lease.routes:
            replace_route(self._netlink, KernelRoute(route.dst, self.link.index, route.gw))

    def unconfigure(self, lease: Lease) -> None:
        """Take the lease's address away, and with it every route that used it."""
        assert lease.net is not None
        delete_address(self._netlink, self.link.index, lease.net)


class Port:
    """A packet socket that sends from the client's UDP port to the server's and receives what comes back."""

    def __init__(self, ifname: str) -> None:
        """Open it in the namespace that the caller is in. Raises OSError."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.setblocking(False)
            _attach_filter(self._socket)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind((ifname, _ETH_P_IP))  # from here on, packets come in
        except BaseException:
            self._socket.close()
            raise
        self._ifname = ifname

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, packet: bytes, hardware: bytes = _BROADCAST_HARDWARE) -> None:
        """Send an IPv4 packet to a hardware address. Raises OSError."""
        self._socket.sendto(packet, (self._ifname, _ETH_P_IP, 0, 0, hardware))

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next datagram and the hardware address it came from; None when there is none now.

        Raises MessageError for a packet that is damaged or not for the client.
        """
        try:
            packet, ancillary, _, source = self._socket.recvmsg(_RECEIVE_BYTES, 64)
        except BlockingIOError:
            return None
        status = 0
        for level, kind, data in ancillary:
            if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= 4:
                status = struct.unpack_from("=I", data)[0]
        if len(source) < 5 or not isinstance(source[4], bytes):
            raise MessageError("a packet without a sender")
        return unwrap(packet, not status & _CHECKSUM_NOT_READY), source[4]


def _attach_filter(sock: socket.socket) -> None:
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER)
    buffer = ctypes.create_string_buffer(program)
    descriptor = struct.pack("@HP", len(_FILTER), ctypes.addressof(buffer))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)


def uplink_of(pod_link: Link) -> str:
    """The name of the host's device that carries the pod's frames on: the bridge of its veth, or a macvlan's parent.

    Empty when there is none. It is what a release can be sent from once the pod's interface is gone.
    """
    with NetlinkSocket() as netlink:
        other = find_link(netlink, index=pod_link.peer) if pod_link.peer else None
        if other is None:
            return ""
        if pod_link.kind != "veth":
            return other.name
        bridge = find_link(netlink, index=other.master) if other.peer == pod_link.index and other.master else None
        return bridge.name if bridge else ""


def send_from_host(packet: bytes, payload: bytes, server: bytes, uplink: str, server_hardware: bytes) -> list[str]:
    """Send a datagram to the server by every way the host has; return what failed.

    The uplink reaches a server on the pod's own segment, though the host may have no address there; the host's
    routes reach one behind a relay or on the host itself.
    """
    failures = []
    if uplink:
        try:
            port = Port(uplink)
            try:
                port.send(packet, server_hardware)
            finally:
                port.close()
        except OSError as error:
            failures.append(f"{uplink}: {error}")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            datagrams.setblocking(False)
            datagrams.sendto(payload, (socket.inet_ntoa(server), SERVER_PORT))
    except OSError as error:
        failures.append(f"route: {error}")
    return failures
