"""Results of CNI plugins, and their shapes in every version of the specification.

Inside, there is one shape, that of version 1.x: `Result`. `Result.from_json` reads any version's, `Result.to_json`
writes any version's:

    0.1.0, 0.2.0    ip4 and ip6, one address each, with the routes of that family
    0.3.x, 0.4.0    interfaces, ips with their `version`, routes, dns; keys in the order of Go's structs
    1.0.0, 1.1.0    without `version`, but with mtu, socketPath and pciID; keys are sorted, an empty dns is left out

Addresses are `bytes` and `IPNet` (see cni.lib.ip).
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.gojson import Fields, dumps, lookup
from cni.lib.ip import IPNet, format_ip, parse_cidr, parse_ip
from cni.lib.versions import VERSIONS, at_least

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BY_FAMILY = ("0.1.0", "0.2.0")
WITH_IP_VERSION = ("0.3.0", "0.3.1", "0.4.0")


def read_ip(fields: Fields, key: str) -> bytes | None:
    """A field of Go's type net.IP: absent, "" or an address."""
    text = fields.text(key, go_type="net.IP")
    if not text:
        return None
    ip = parse_ip(text)
    if ip is None:
        raise CniError(f"invalid IP address: {text}")
    return ip


def read_cidr(fields: Fields, key: str) -> IPNet:
    """A field of the type types.IPNet: an address with a prefix length."""
    text = fields.text(key)
    net = parse_cidr(text)
    if net is None:
        raise CniError(f"invalid CIDR address: {text}")
    return net


class Interface:
    """A network interface that the plugin made or found; `sandbox` is the netns path, empty for one on the host."""

    __slots__ = ("extra", "mac", "name", "sandbox")

    def __init__(self, name: str, mac: str = "", sandbox: str = "", extra: dict[str, Any] | None = None) -> None:
        self.name = name
        self.mac = mac
        self.sandbox = sandbox
        self.extra = extra or {}  # since 1.0.0: mtu, socketPath, pciID

    @classmethod
    def read(cls, fields: Fields) -> Interface:
        """From the object in a result."""
        extra: dict[str, Any] = {}
        if mtu := fields.number("mtu"):
            extra["mtu"] = mtu
        for key in ("socketPath", "pciID"):
            if text := fields.text(key):
                extra[key] = text
        return cls(fields.text("name"), fields.text("mac"), fields.text("sandbox"), extra)

    def to_json(self, with_extra: bool) -> dict[str, Any]:
        """The object for a result; `with_extra` adds what results before 1.0.0 have no room for."""
        shape: dict[str, Any] = {"name": self.name}
        if self.mac:
            shape["mac"] = self.mac
        if self.sandbox:
            shape["sandbox"] = self.sandbox
        return {**shape, **self.extra} if with_extra else shape


class IPConfig:
    """An address given to an interface; `interface` is its index in the result, None in an IPAM plugin's result."""

    __slots__ = ("address", "gateway", "interface")

    def __init__(self, address: IPNet, gateway: bytes | None = None, interface: int | None = None) -> None:
        self.address = address
        self.gateway = gateway
        self.interface = interface

    @classmethod
    def read(cls, fields: Fields) -> IPConfig:
        """From the object in a result."""
        interface = fields.number("interface", -1)
        return cls(read_cidr(fields, "address"), read_ip(fields, "gateway"), None if interface < 0 else interface)

    def to_json(self, with_version: bool) -> dict[str, Any]:
        """The object for a result; before 1.0.0 it names the IP version."""
        shape: dict[str, Any] = {}
        if with_version:
            shape["version"] = "4" if len(self.address.ip) == 4 else "6"
        if self.interface is not None:
            shape["interface"] = self.interface
        shape["address"] = str(self.address)
        if self.gateway:
            shape["gateway"] = format_ip(self.gateway)
        return shape


ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")
MEANT_WHEN_ZERO = ("table", "scope")


class Route:
    """A route for the container; `extra` holds those of mtu, advmss, priority, table and scope that are set."""

    __slots__ = ("dst", "extra", "gw")

    def __init__(self, dst: IPNet, gw: bytes | None = None, extra: dict[str, int] | None = None) -> None:
        self.dst = dst
        self.gw = gw
        self.extra = extra or {}

    @classmethod
    def read_all(cls, fields: Fields) -> list[Route]:
        """The routes of a result or a configuration."""
        return [cls.read(item) for item in fields.children("routes", fields.struct, "types.Route", "[]*types.Route")]

    @classmethod
    def read(cls, fields: Fields) -> Route:
        """From the object in a result or a configuration."""
        extra = {}
        for key in ROUTE_NUMBERS:
            number = fields.number(key)
            if number or (key in MEANT_WHEN_ZERO and lookup(fields.data, key) is not None):
                extra[key] = number
        return cls(read_cidr(fields, "dst"), read_ip(fields, "gw"), extra)

    def to_json(self, with_extra: bool = True) -> dict[str, Any]:
        """The object for a result; before 0.3.0 it is dst and gw alone."""
        shape: dict[str, Any] = {"dst": str(self.dst)}
        if self.gw:
            shape["gw"] = format_ip(self.gw)
        return {**shape, **self.extra} if with_extra else shape


DNS_LISTS = ("nameservers", "search", "options")


class DNS:
    """Name service settings for the container.

    `given` tells whether a configuration has any, be it an empty list, which says that there shall be none.
    """

    __slots__ = ("domain", "given", "nameservers", "options", "search")

    def __init__(self) -> None:
        self.given = False
        self.nameservers: list[str] = []
        self.domain = ""
        self.search: list[str] = []
        self.options: list[str] = []

    @classmethod
    def read(cls, fields: Fields | None) -> DNS:
        """From the object in a result or a configuration, if there is one."""
        dns = cls()
        if fields is not None:
            dns.nameservers = fields.texts("nameservers")
            dns.domain = fields.text("domain")
            dns.search = fields.texts("search")
            dns.options = fields.texts("options")
            dns.given = bool(dns.domain) or any(lookup(fields.data, key) is not None for key in DNS_LISTS)
        return dns

    def to_json(self) -> dict[str, Any]:
        """The object for a result, without what is empty."""
        shape = {
            "nameservers": self.nameservers,
            "domain": self.domain,
            "search": self.search,
            "options": self.options,
        }
        return {key: value for key, value in shape.items() if value}

    def __bool__(self) -> bool:
        return bool(self.to_json())


def read_net_conf(fields: Fields) -> DNS:
    """What every configuration may have: its `dns`. Raises JsonTypeError, also for what is read only later.

    Go reads a configuration whole, so a wrong type is an error before anything is made.
    """
    fields.child("prevResult", "NetConf", "map[string]interface {}")
    section = fields.child("ipam", "IPAM", "types.IPAM")
    if section is not None:
        section.text("type")
    return DNS.read(fields.child("dns", "DNS", "types.DNS"))


class Result:
    """What ADD answers."""

    __slots__ = ("dns", "interfaces", "ips", "routes")

    def __init__(self) -> None:
        self.interfaces: list[Interface] = []
        self.ips: list[IPConfig] = []
        self.routes: list[Route] = []
        self.dns = DNS()

    @classmethod
    def from_json(cls, data: dict[str, Any], default_version: str) -> Result:
        """Read a result of any version; one without cniVersion has `default_version`. Raises CniError, ValueError."""
        fields = Fields(data, "Result")
        version = fields.text("cniVersion") or default_version
        if version not in VERSIONS:
            raise CniError(f'unsupported CNI result version "{version}"')
        result = cls()
        result.dns = DNS.read(fields.child("dns", "DNS", "types.DNS"))
        if version in BY_FAMILY:
            result._read_by_family(fields)
            return result
        package = "types040" if version in WITH_IP_VERSION else "types100"
        for item in fields.children("interfaces", "Interface", f"{package}.Interface", f"[]*{package}.Interface"):
            result.interfaces.append(Interface.read(item))
        for item in fields.children("ips", fields.struct, f"{package}.IPConfig", f"[]*{package}.IPConfig"):
            result.ips.append(IPConfig.read(item))
        result.routes = Route.read_all(fields)
        return result

    def _read_by_family(self, fields: Fields) -> None:
        for key in ("ip4", "ip6"):
            part = fields.child(key, "IPConfig")
            if part is None:
                continue
            self.ips.append(IPConfig(read_cidr(part, "ip"), read_ip(part, "gateway")))
            self.routes += Route.read_all(part)

    def to_json(self, version: str) -> dict[str, Any]:
        """The result in the shape of `version`. Raises CniError where that shape cannot hold it."""
        if version in BY_FAMILY:
            return self._by_family(version)
        old = version in WITH_IP_VERSION
        shape: dict[str, Any] = {"cniVersion": version}
        if self.interfaces:
            shape["interfaces"] = [item.to_json(with_extra=not old) for item in self.interfaces]
        if self.ips:
            shape["ips"] = [ip.to_json(old) for ip in self.ips]
        if self.routes:
            shape["routes"] = [route.to_json() for route in self.routes]
        if old or self.dns:
            shape["dns"] = self.dns.to_json()
        return shape

    def _by_family(self, version: str) -> dict[str, Any]:
        shape: dict[str, Any] = {"cniVersion": version}
        for key, length in (("ip4", 4), ("ip6", 16)):
            first = next((ip for ip in self.ips if len(ip.address.ip) == length), None)
            if first is None:
                continue
            part: dict[str, Any] = {"ip": str(first.address)}
            if first.gateway:
                part["gateway"] = format_ip(first.gateway)
            routes = [route.to_json(with_extra=False) for route in self.routes if len(route.dst.ip) == length]
            if routes:
                part["routes"] = routes
            shape[key] = part
        if len(shape) == 1:
            raise CniError("cannot convert: no valid IP addresses")
        shape["dns"] = self.dns.to_json()
        return shape

    def print(self, version: str) -> str:
        """The text that a plugin writes to stdout: four spaces a level, no newline at the end."""
        return dumps(self.to_json(version), indent=4, sort_keys=at_least(version, "1.0.0"))
