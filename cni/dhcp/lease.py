"""A lease: what a server granted in its DHCPACK, and what follows from it.

Times are seconds on a clock that runs on while the machine sleeps and that does not jump (CLOCK_BOOTTIME): a
lease is counted in elapsed time, and a saved lease is read back only within the same boot.

Nothing says that the server means well. What would keep the client busy (a lease of no time, timers out of order) and
what no interface can have (loopback, multicast) is refused, or replaced by what RFC 2131 says for want of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from socket import inet_aton, inet_ntoa

from cni.dhcp.message import ANY, Message, Option
from cni.lib.ip import IPNet, default_net
from cni.lib.types import IPConfig, Result, Route

_FOREVER = 0xFFFFFFFF
_SHORTEST_LEASE = 2.0  # seconds
_SHORTEST_TIMER = 1.0  # the least that T1 and T2 may be, so the most that a client asks is once in a second


class LeaseError(ValueError):
    """A DHCPACK that grants nothing usable, or a saved lease that cannot be read."""


@dataclass(frozen=True)
class Lease:
    """An address, the options that came with it, when it was asked for, and the hardware address that answered."""

    address: bytes
    options: Mapping[int, bytes]
    obtained_at: float
    server_hardware: bytes

    @classmethod
    def from_ack(cls, ack: Message, obtained_at: float, server_hardware: bytes) -> Lease:
        """Read a DHCPACK. Raises LeaseError when it lacks what RFC 2131 (table 3) demands of it."""
        if not is_host_address(ack.yiaddr):
            raise LeaseError(f"DHCPACK with {inet_ntoa(ack.yiaddr)}, which no interface can have")
        for option, name in ((Option.LEASE_TIME, "IP Address Lease Time"), (Option.SERVER_ID, "Server Identifier")):
            if len(ack.options.get(option, b"")) != 4:
                raise LeaseError(f"DHCP option {name} not found in DHCPACK")
        if not is_host_address(ack.options[Option.SERVER_ID]):
            raise LeaseError(f"DHCPACK from {inet_ntoa(ack.options[Option.SERVER_ID])}, which no server can have")
        lease = cls(ack.yiaddr, dict(ack.options), obtained_at, server_hardware)
        if lease.lease_len < _SHORTEST_LEASE:
            raise LeaseError(f"DHCPACK for {lease.lease_len:.0f} s, too short to be renewed in time")
        return lease

    def completed_by(self, former: Lease | None) -> Lease:
        """This lease, with the former one's options where a renewal did not repeat them."""
        return replace(self, options={**former.options, **self.options}) if former else self

    @property
    def server_id(self) -> bytes:
        """The server's address, as it names itself."""
        return self.options[Option.SERVER_ID]

    @property
    def lease_len(self) -> float:
        """How many seconds the lease lasts; infinite where the server says so."""
        seconds = int.from_bytes(self.options[Option.LEASE_TIME], "big")
        return math.inf if seconds == _FOREVER else float(seconds)

    @property
    def expires_at(self) -> float:
        """When the address must no longer be used."""
        return self.obtained_at + self.lease_len

    @property
    def rebind_at(self) -> float:
        """T2, when any server may be asked: option 59, else 7/8 of the lease (RFC 2131 section 4.4.5)."""
        return self.obtained_at + self._t2

    @property
    def renew_at(self) -> float:
        """T1, when the server is first asked again: option 58, else half of the lease; always before T2."""
        half = self.lease_len / 2
        return self.obtained_at + self._timer(Option.RENEWAL_TIME, self._t2, half if half < self._t2 else self._t2 / 2)

    @property
    def _t2(self) -> float:
        return self._timer(Option.REBINDING_TIME, self.lease_len, self.lease_len * 0.875)

    def _timer(self, option: int, end: float, default: float) -> float:
        """The seconds that the option says if they are some and fewer than `end`, else the default."""
        value = self.options.get(option, b"")
        seconds = int.from_bytes(value, "big") if len(value) == 4 else 0
        return float(seconds) if _SHORTEST_TIMER <= seconds < end else default

    @property
    def net(self) -> IPNet | None:
        """The address with the length of the subnet mask (option 1).

        None when there is no mask, or it is not one, or the address is the subnet's own or its broadcast address.
        """
        mask = self.options.get(Option.SUBNET_MASK, b"")
        bits = f"{int.from_bytes(mask, 'big'):032b}"
        if len(mask) != 4 or "01" in bits or "1" not in bits:
            return None
        host_bits = bits.count("0")
        host = int.from_bytes(self.address, "big") & ((1 << host_bits) - 1)
        is_host = host_bits < 2 or 0 < host < (1 << host_bits) - 1
        return IPNet(self.address, bits.count("1")) if is_host else None

    @property
    def gateway(self) -> bytes | None:
        """The first router (option 3) that can be one."""
        routers = self.options.get(Option.ROUTER, b"")
        whole = [routers[at : at + 4] for at in range(0, len(routers) - 3, 4)]
        return next(filter(is_host_address, whole), None)

    @property
    def routes(self) -> list[Route]:
        """The routes that came with the address.

        Option 121 replaces option 33 and the router (RFC 3442). A default route through the router follows the
        routes of option 33, since CNI wants the gateway to be a route as well.
        """
        classless = _classless_routes(self.options.get(Option.CLASSLESS_ROUTES, b""))
        if classless:
            return classless
        default = [Route(default_net(4), self.gateway)] if self.gateway else []
        return _static_routes(self.options.get(Option.STATIC_ROUTES, b"")) + default

    @property
    def result(self) -> Result:
        """What the plugin answers with for this lease."""
        result = Result()
        if self.net is not None:
            result.ips = [IPConfig(self.net, self.gateway)]
        result.routes = self.routes
        return result

    def to_json(self) -> dict[str, object]:
        """The lease as an object for a state file; `from_json` reads it back."""
        return {
            "address": inet_ntoa(self.address),
            "options": {str(code): value.hex() for code, value in self.options.items()},
            "obtainedAt": self.obtained_at,
            "serverHardware": self.server_hardware.hex(),
        }

    @classmethod
    def from_json(cls, saved: object) -> Lease:
        """Read a saved lease. Raises LeaseError for anything that `to_json` would not have written."""
        try:
            assert isinstance(saved, dict)
            options = {int(code): bytes.fromhex(value) for code, value in saved["options"].items()}
            lease = cls(
                inet_aton(saved["address"]), options, float(saved["obtainedAt"]), bytes.fromhex(saved["serverHardware"])
            )
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise LeaseError(f"not a saved lease: {error!r}") from error
        if any(len(options.get(option, b"")) != 4 for option in (Option.LEASE_TIME, Option.SERVER_ID)):
            raise LeaseError("a saved lease without lease time or server identifier")
        return lease


def is_host_address(address: bytes) -> bool:
    """Whether an interface can have the address: not of this network, loopback, multicast or reserved (RFC 6890)."""
    return len(address) == 4 and 0 < address[0] < 224 and address[0] != 127


def _is_destination(destination: bytes, prefix_len: int) -> bool:
    """Whether a route may lead there: everywhere, or where hosts are."""
    return prefix_len == 0 or is_host_address(destination)


def _classless_routes(data: bytes) -> list[Route]:
    """Option 121 (RFC 3442): prefix length, the significant bytes of the destination, gateway; nothing if malformed."""
    routes = []
    at = 0
    while at < len(data):
        prefix_len = data[at]
        gateway_at = at + 1 + (prefix_len + 7) // 8
        if prefix_len > 32 or gateway_at + 4 > len(data):
            return []
        destination = data[at + 1 : gateway_at].ljust(4, b"\0")
        gateway = data[gateway_at : gateway_at + 4]
        if _is_destination(destination, prefix_len) and (gateway == ANY or is_host_address(gateway)):
            routes.append(_route(destination, prefix_len, gateway))
        at = gateway_at + 4
    return routes


def _static_routes(data: bytes) -> list[Route]:
    """Option 33 (RFC 2132 section 5.8): pairs of destination and gateway; the prefix is that of the class."""
    pairs = [(data[at : at + 4], data[at + 4 : at + 8]) for at in range(0, len(data) - 7, 8)]
    return [
        _route(dst, prefix_len, gw)
        for dst, gw in pairs
        if (prefix_len := _classful(dst)) and _is_destination(dst, prefix_len) and is_host_address(gw)
    ]


def _classful(address: bytes) -> int:
    """The prefix length of class A, B or C; 0 for any other, and for the default route, which option 33 forbids."""
    if address[0] >= 224 or address == ANY:
        return 0
    return 8 if address[0] < 128 else 16 if address[0] < 192 else 24


def _route(destination: bytes, prefix_len: int, gateway: bytes) -> Route:
    return Route(IPNet(destination, prefix_len).network, gateway)
