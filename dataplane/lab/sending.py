"""Bytes put on their way as they are, from this process's network namespace: by a device, by routes, in a datagram."""

import errno
import re
import socket
from ipaddress import ip_address

from dataplane.errors import UsageError
from dataplane.lab.dissect import OVERLAY_PORT
from dataplane.lab.netns import LabError

ARPHRD_ETHER = 1
"""include/uapi/linux/if_arp.h: a device whose frames start with an Ethernet header."""

IPV6_HDRINCL = 36
"""include/uapi/linux/in6.h"""


def send_frame(data: bytes, device: str) -> None:
    """Have a device send bytes as they are."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        try:
            # A TUN is told the protocol beside the packet; an Ethernet frame has its own.
            protocol = {4: 0x0800, 6: 0x86DD}.get(data[0] >> 4, 0) if not is_ethernet(device) else 0
            sock.sendto(data, (device, protocol))
        except OSError as error:
            raise _refusal(error, f"{device} does not send {len(data)} bytes") from error


def send_routed(data: bytes, destination: str) -> None:
    """Have the kernel send a whole IP packet by its routes."""
    address = _resolved(destination)
    version = 6 if ":" in address else 4
    if data[0] >> 4 != version:
        raise UsageError(f"the packet is IPv{data[0] >> 4}, and {destination} is an address of IPv{version}")
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        try:
            if version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
            sock.sendto(data, (address, 0))
        except OSError as error:
            raise _refusal(error, f"the kernel does not send {len(data)} bytes to {address}") from error


def send_datagram(data: bytes, address: str, port: int) -> None:
    """Send the packet as the payload of a datagram."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(data, (address, port))
        except OSError as error:
            raise _refusal(error, f"no datagram of {len(data)} bytes to {address} port {port}") from error


def _refusal(error: OSError, what: str) -> LabError:
    ways = {
        errno.EMSGSIZE: "it is longer than the MTU; make it shorter",
        errno.ENODEV: "there is no such device; see `udplane lab exec WHERE ip link`",
        errno.ENXIO: "there is no such device; see `udplane lab exec WHERE ip link`",
        errno.ENETUNREACH: "no route leads there; see `udplane lab exec WHERE ip route`",
        errno.ENETDOWN: "the device is down; see `udplane lab exec WHERE ip link`",
    }
    return LabError(
        f"{what}: {error.strerror}; {ways.get(error.errno or 0, 'see `ip route get` and `nft list ruleset` there')}"
    )


def endpoint(text: str) -> tuple[str, int]:
    """Address and port of `PLACE[:PORT]`; a place, or an address with brackets around it if it is IPv6."""
    match = re.fullmatch(r"(\[[^]]+\]|[^:]+)(?::([0-9]{1,5}))?", text)
    port = int(match[2] or OVERLAY_PORT) if match else 0
    if not match or not 0 < port < 65536:
        raise UsageError(
            f"--to {text}: write a place or an address, and perhaps a port: node2, node2:8285, [fd00::1]:53"
        )
    return _resolved(match[1].strip("[]")), port


def _resolved(name: str) -> str:
    """The address that a name stands for here. Raises LabError."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_RAW)[0][4][0])
    except OSError as error:
        raise LabError(f"{name} is no address and no place of this lab; see `udplane lab status`") from error


def is_ethernet(device: str) -> bool:
    """Whether frames of a device start with an Ethernet header. Raises LabError if there is no such device."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        try:
            sock.bind((device, 0))
        except OSError as error:
            raise _refusal(error, device) from error
        return bool(sock.getsockname()[3] == ARPHRD_ETHER)
