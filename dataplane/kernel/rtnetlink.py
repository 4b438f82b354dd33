"""Many entries of the kernel's routing, neighbour and forwarding tables at once, by rtnetlink(7).

Three kinds of entries steer packets to a peer without a hand of ours on the packet:

    Route            packets for a subnet go to a gateway
    Neighbour        the gateway has this MAC address, so nobody asks the wire for it
    ForwardingEntry  frames for that MAC address leave a vxlan device in datagrams to this underlay address

`Tables.read` says which of them are there, `Tables.update` changes many. A node of a large cluster has thousands of
each, and a library takes a hundred times as long to pack one (docs/decisions/0013-own-netlink-encoder.md), so the
messages are packed here, a hundred to a system call, and nothing but these three kinds can be said.

Entries of ours are told from others' by what only we use: routes carry a protocol number of our own (ROUTE_PROTOCOL,
rtm_protocol in rtnetlink(7)); neighbours and forwarding entries count as ours when they are permanent and on a device
that the node made. Numbers are in host byte order, addresses in network order (include/uapi/linux/rtnetlink.h,
neighbour.h).
"""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

from dataplane.addresses import Address, Network, address_of, network_of
from dataplane.errors import NodeError

ROUTE_PROTOCOL = 85
"""Who made a route; none of iproute2's rt_protos has this number. `ip route show proto 85` lists our routes."""

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION = {number: version for version, number in FAMILY.items()}
_AF_BRIDGE = 7

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # struct ndmsg: family, device, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_ERROR = struct.Struct("=i")

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
_DUMP_INTERRUPTED = 0x10

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 7, 15, 18
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12  # the kernel filters dumps, from 4.20 on
_RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, _RTNH_F_ONLINK = 254, 0, 1, 4
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT, _NTF_SELF = 0x80, 0x02

_MESSAGES_AT_ONCE = 100
"""So many acknowledgements fit into the default receive buffer of a socket, with room to spare."""
_QUESTIONS_AT_ONCE = 16
"""An answer takes up some KiB of the receive buffer."""
_DUMP_ATTEMPTS = 5
_ANSWER_SECONDS = 15.0
_GONE = (errno.ESRCH, errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Route:
    """Packets for `destination` go to `gateway` through the interface with the index `device`.

    `onlink` means that the gateway is there, even though no address of the device says so.
    """

    destination: Network
    gateway: Address
    device: int
    onlink: bool = False

    def __str__(self) -> str:
        return f"the route to {self.destination} via {self.gateway}"

    @property
    def identity(self) -> object:
        """What another route has to share with this one for the two to be in each other's place."""
        return self.destination

    def message(self, *, delete: bool = False) -> tuple[int, bytes]:
        """Type and body of the message that puts or deletes the route."""
        body = _ROUTE.pack(
            *(FAMILY[self.destination.version], self.destination.prefixlen, 0, 0, _RT_TABLE_MAIN, ROUTE_PROTOCOL),
            *(_RT_SCOPE_UNIVERSE, _RTN_UNICAST, _RTNH_F_ONLINK if self.onlink else 0),
        )
        body += _attribute(_RTA_DST, self.destination.network_address.packed)
        body += _attribute(_RTA_GATEWAY, self.gateway.packed) + _attribute(_RTA_OIF, struct.pack("=i", self.device))
        return _DELROUTE if delete else _NEWROUTE, body


@dataclass(frozen=True, slots=True)
class MainRoute:
    """A route of the main table, whoever made it. `device` is 0 where several hops share it.

    What is dear is worked out when it is asked for: a router of the Internet has a million routes.
    """

    version: int
    length: int
    protocol: int
    flags: int
    attributes: Mapping[int, bytes]

    def __str__(self) -> str:
        """For people: `the route 10.5.7.0/24 via 192.0.2.1 dev eth1`."""
        gateway = self.attributes.get(_RTA_GATEWAY)
        text = f"the route {self.destination}" + (f" via {address_of(gateway)}" if gateway else "")
        try:
            return f"{text} dev {socket.if_indextoname(self.device)}"
        except OSError:
            return text

    @property
    def destination(self) -> Network:
        """Where it leads."""
        return network_of(self.attributes.get(_RTA_DST) or bytes(4 if self.version == 4 else 16), self.length)

    @property
    def device(self) -> int:
        """The index of its interface."""
        return _number(self.attributes.get(_RTA_OIF))

    @property
    def source(self) -> Address | None:
        """The address that packets of this host get."""
        found = self.attributes.get(_RTA_PREFSRC)
        return address_of(found) if found else None

    @property
    def on_link(self) -> bool:
        """Whether it leads to hosts of the link itself."""
        return bool(self.length) and not self.attributes.keys() & {_RTA_GATEWAY, _RTA_VIA}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """On the interface with the index `device`, `address` has the MAC address `mac`, 6 bytes."""

    device: int
    address: Address
    mac: bytes

    def __str__(self) -> str:
        return f"the neighbour {self.address} at {self.mac.hex(':')}"

    @property
    def identity(self) -> object:
        """See `Route.identity`."""
        return self.device, self.address

    def message(self, *, delete: bool = False) -> tuple[int, bytes]:
        """See `Route.message`."""
        body = _NEIGHBOUR.pack(FAMILY[self.address.version], self.device, _NUD_PERMANENT, 0, _RTN_UNICAST)
        body += _attribute(_NDA_DST, self.address.packed) + _attribute(_NDA_LLADDR, self.mac)
        return _DELNEIGH if delete else _NEWNEIGH, body


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """The vxlan interface with the index `device` sends frames for `mac` to the underlay address `remote`."""

    device: int
    mac: bytes
    remote: Address

    def __str__(self) -> str:
        return f"the forwarding of {self.mac.hex(':')} to {self.remote}"

    @property
    def identity(self) -> object:
        """See `Route.identity`."""
        return self.device, self.mac

    def message(self, *, delete: bool = False) -> tuple[int, bytes]:
        """See `Route.message`."""
        body = _NEIGHBOUR.pack(_AF_BRIDGE, self.device, _NUD_PERMANENT, _NTF_SELF, 0)
        body += _attribute(_NDA_DST, self.remote.packed) + _attribute(_NDA_LLADDR, self.mac)
        return _DELNEIGH if delete else _NEWNEIGH, body


Entry = Route | Neighbour | ForwardingEntry


@dataclass(frozen=True, slots=True)
class Refusal:
    """The kernel did not take `entry`; `reason` is its error in words."""

    entry: Entry
    reason: str


class Tables:
    """The tables of the network namespace in which it was opened. A context manager; owns a netlink socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(_ANSWER_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self, networks: Sequence[Network], devices: Container[int]) -> set[Entry]:
        """Our entries: routes into `networks`, neighbours and forwarding entries of the interfaces `devices`."""
        entries: set[Entry] = set()
        for version in {network.version for network in networks}:
            entries |= {route for route in self._routes(version) if is_within(route.destination, networks)}
            entries |= {entry for entry in self._neighbours(FAMILY[version]) if entry.device in devices}
        return entries | {entry for entry in self._neighbours(_AF_BRIDGE) if entry.device in devices}

    def update(self, remove: Iterable[Entry], put: Iterable[Entry]) -> list[Refusal]:
        """Delete the entries `remove`, then put the entries `put`, in these orders; returns what was refused.

        To put an entry replaces the one in its place, but not a route that somebody else made and that leads elsewhere.
        To delete what is gone already is no failure.
        """
        put = list(put)
        refusals = self._carry_out(remove, delete=True)
        fresh = self._carry_out([entry for entry in put if isinstance(entry, Route)], how=_CREATE | _EXCLUSIVE)
        taken = [entry for entry, code in fresh if code == errno.EEXIST and isinstance(entry, Route)]
        foreign = self._foreign(taken) if taken else {}
        others = [entry for entry in put if not isinstance(entry, Route)]
        refusals += [(entry, code) for entry, code in fresh if code != errno.EEXIST]
        refusals += self._carry_out([*others, *(route for route in taken if route not in foreign)])
        refused = [Refusal(entry, os.strerror(code)) for entry, code in refusals]
        return refused + [
            Refusal(route, f"{other} is in its place, and is not ours") for route, other in foreign.items()
        ]

    def outgoing(self, addresses: Iterable[Address]) -> dict[Address, int]:
        """The index of the interface by which this host sends to each address; 0 where there is no way."""
        found: dict[Address, int] = {}
        waiting = iter(dict.fromkeys(addresses))
        while batch := list(islice(waiting, _QUESTIONS_AT_ONCE)):
            first, n_before = self._sequence + 1, len(found)
            questions = (
                _ROUTE.pack(FAMILY[a.version], a.max_prefixlen, *[0] * 7) + _attribute(_RTA_DST, a.packed)
                for a in batch
            )
            self._socket.send(b"".join(self._message(_GETROUTE, question, _REQUEST) for question in questions))
            while len(found) < n_before + len(batch):
                for kind, _, sequence, body in self._receive():
                    attributes = _attributes(body, _ROUTE.size) if kind == _NEWROUTE else {}
                    found[batch[sequence - first]] = _number(attributes.get(_RTA_OIF))
        return found

    def _foreign(self, wanted: Sequence[Route]) -> dict[Route, str]:
        """Those of `wanted` whose place has a route that is not ours and leads elsewhere, with words for that one."""
        by_destination = {route.destination: route for route in wanted}
        found = {}
        for version in {route.destination.version for route in wanted}:
            for other in self.main_routes(version):
                route = by_destination.get(other.destination)
                gateway, device = other.attributes.get(_RTA_GATEWAY, b""), other.device
                leads_there = route is not None and (gateway, device) == (route.gateway.packed, route.device)
                if route is not None and other.protocol != ROUTE_PROTOCOL and not leads_there:
                    via = f" via {address_of(gateway)}" if len(gateway) in (4, 16) else ""
                    found[route] = f"another route{via}"
        return found

    def _carry_out(
        self, entries: Iterable[Entry], *, delete: bool = False, how: int = _CREATE | _REPLACE
    ) -> list[tuple[Entry, int]]:
        flags = _REQUEST | _ACK | (0 if delete else how)
        refused = []
        waiting = iter(entries)
        while batch := list(islice(waiting, _MESSAGES_AT_ONCE)):
            first = self._sequence + 1
            self._socket.send(b"".join(self._message(*entry.message(delete=delete), flags) for entry in batch))
            for sequence, code in self._acknowledgements(len(batch)):
                if code and not (delete and code in _GONE):
                    refused.append((batch[sequence - first], code))
        return refused

    def _message(self, kind: int, body: bytes, flags: int) -> bytes:
        self._sequence += 1
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body

    def _acknowledgements(self, count: int) -> Iterator[tuple[int, int]]:
        """Sequence number and errno, 0 for success, of the last `count` messages."""
        while count:
            for kind, _, sequence, body in self._receive():
                if kind == _NLMSG_ERROR:
                    count -= 1
                    yield sequence, -_ERROR.unpack_from(body)[0]

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """The messages of one datagram: type, flags, sequence number and body of each."""
        try:
            data = self._socket.recv(1 << 17)
        except OSError as error:
            raise NodeError(f"cannot read the kernel's tables: {error.strerror or error}") from error
        messages, at = [], 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            messages.append((kind, flags, sequence, data[at + _HEADER.size : at + length]))
            at += max(_aligned(length), _HEADER.size)
        return messages

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all entries of a table, asked for again when it was changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            self._socket.send(self._message(kind, body, _REQUEST | _DUMP))
            bodies, whole = self._answers()
            if whole:
                break
        return bodies

    def _answers(self) -> tuple[list[bytes], bool]:
        """The answers to a dump, and whether they show one state of the table."""
        bodies: list[bytes] = []
        whole = True
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind == _NLMSG_DONE:
                    return bodies, whole
                if kind == _NLMSG_ERROR:
                    raise NodeError(f"cannot read the kernel's tables: {os.strerror(-_ERROR.unpack_from(body)[0])}")
                bodies.append(body)

    def _routes(self, version: int) -> Iterator[Route]:
        for route in self.main_routes(version, protocol=ROUTE_PROTOCOL):
            if route.attributes.keys() >= {_RTA_DST, _RTA_GATEWAY, _RTA_OIF}:
                gateway = address_of(route.attributes[_RTA_GATEWAY])
                yield Route(route.destination, gateway, route.device, bool(route.flags & _RTNH_F_ONLINK))

    def main_routes(self, version: int, *, protocol: int = 0, device: int = 0) -> Iterator[MainRoute]:
        """The main table's routes, all or those of a protocol (rtm_protocol), all or those by an interface.

        The kernel leaves out the others where it can, so that little is read on a host with very many.
        """
        by_device = _attribute(_RTA_OIF, struct.pack("=i", device)) if device else b""
        for body in self._dump(_GETROUTE, _ROUTE.pack(FAMILY[version], *[0] * 4, protocol, *[0] * 3) + by_device):
            family, length, _, _, _, found_protocol, _, _, flags = _ROUTE.unpack_from(body)
            route = MainRoute(_VERSION[family], length, found_protocol, flags, _attributes(body, _ROUTE.size))
            wanted = protocol in (0, found_protocol) and device in (0, route.device)
            if wanted and _number(route.attributes.get(_RTA_TABLE)) == _RT_TABLE_MAIN:
                yield route

    def _neighbours(self, family: int) -> Iterator[Neighbour | ForwardingEntry]:
        for body in self._dump(_GETNEIGH, _NEIGHBOUR.pack(family, 0, 0, 0, 0)):
            kind, device, state, _, _ = _NEIGHBOUR.unpack_from(body)
            found = _attributes(body, _NEIGHBOUR.size)
            if not state & _NUD_PERMANENT or not found.keys() >= {_NDA_DST, _NDA_LLADDR}:
                continue
            address, mac = address_of(found[_NDA_DST]), found[_NDA_LLADDR]
            yield ForwardingEntry(device, mac, address) if kind == _AF_BRIDGE else Neighbour(device, address, mac)


def is_within(network: Network, networks: Iterable[Network]) -> bool:
    """True if all of `network` lies in one of `networks`."""
    return any(
        other.version == network.version and other.prefixlen <= network.prefixlen and network.network_address in other
        for other in networks
    )


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(_aligned(len(value)) - len(value))
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        found[kind] = body[at + _ATTRIBUTE.size : at + length]
        at += max(_aligned(length), _ATTRIBUTE.size)
    return found


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)
