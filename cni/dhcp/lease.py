"""A lease: what a server granted in its DHCPACK, and what follows from it.

Times are seconds on a clock that runs on while the machine sleeps and that does not jump (CLOCK_BOOTTIME): a
lease is counted in elapsed time, and a saved lease is read back only within the same boot.
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
        if ack.yiaddr == ANY:
            raise LeaseError("DHCPACK without an address")
        for option, name in ((Option.LEASE_TIME, "IP Address Lease Time"), (Option.SERVER_ID, "Server Identifier")):
            if len(ack.options.get(option, b"")) != 4:
                raise LeaseError(f"DHCP option {name} not found in DHCPACK")
        return cls(ack.yiaddr, dict(ack.options), obtained_at, server_hardware)

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
        return self.obtained_at + self._timer(Option.REBINDING_TIME, self.lease_len, 0.875)

    @property
    def renew_at(self) -> float:
        """T1, when the server is first asked again: option 58, else half of the lease; never after T2."""
        return min(self.obtained_at + self._timer(Option.RENEWAL_TIME, self.lease_len, 0.5), self.rebind_at)

    def _timer(self, option: int, limit: float, fraction: float) -> float:
        value = self.options.get(option, b"")
        seconds = int.from_bytes(value, "big") if len(value) == 4 else limit + 1
        return seconds if seconds <= limit else limit * fraction

    @property
    def net(self) -> IPNet | None:
        """The address with the length of the subnet mask (option 1); None when there is no mask or it is not one."""
        mask = self.options.get(Option.SUBNET_MASK, b"")
        bits = f"{int.from_bytes(mask, 'big'):032b}"
        return IPNet(self.address, bits.count("1")) if len(mask) == 4 and "01" not in bits else None

    @property
    def gateway(self) -> bytes | None:
        """The first router (option 3)."""
        routers = self.options.get(Option.ROUTER, b"")
        return routers[:4] if len(routers) >= 4 else None

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
        routes.append(_route(destination, prefix_len, data[gateway_at : gateway_at + 4]))
        at = gateway_at + 4
    return routes


def _static_routes(data: bytes) -> list[Route]:
    """Option 33 (RFC 2132 section 5.8): pairs of destination and gateway; the prefix is that of the class."""
    pairs = [(data[at : at + 4], data[at + 4 : at + 8]) for at in range(0, len(data) - 7, 8)]
    return [_route(dst, prefix_len, gw) for dst, gw in pairs if (prefix_len := _classful(dst))]


def _classful(address: bytes) -> int:
    """The prefix length of class A, B or C; 0 for any other, and for the default route, which option 33 forbids."""
    if address[0] >= 224 or address == ANY:
        return 0
    return 8 if address[0] < 128 else 16 if address[0] < 192 else 24


def _route(destination: bytes, prefix_len: int, gateway: bytes) -> Route:
    return Route(IPNet(destination, prefix_len).network, gateway)
