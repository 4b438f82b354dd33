"""Peers listed by hand in one TOML file that is the same on every node (`static:FILE`).

    [network]                       # flannel's net-conf keys
    Network = "10.5.0.0/16"
    Backend = { Type = "udp", Port = 8285 }

    [[peer]]
    node = "alpha"
    public-ip = "192.168.64.3"      # public-ipv6 for an IPv6 underlay; either or both
    subnets = ["10.5.1.0/24"]       # one of each enabled family

    [[peer]]
    node = "beta"
    public-ip = "192.168.64.4"
    subnets = ["10.5.2.0/24"]

A node finds its own entry by its name or else by its public IP. Leases here are reservations: nothing expires, and
`release` leaves the file alone. The file is looked at four times a second, so an edit takes effect within
a second; an edit that makes no sense is said and what was known before stays in force.
"""

import asyncio
import contextlib
import itertools
import tomllib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

from dataplane.addresses import Address, OneFamily, trouble_with_host
from dataplane.errors import ConfigError, LeaseError, LeaseLostError, StoreError, UsageError
from dataplane.leases import gojson
from dataplane.leases.allocation import own_lease
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import AcquireRequest, Snapshot, Store, StoreOptions, WatchUpdate
from dataplane.stores.polling import watch_by_polling

_MAX_BYTES = 16 * 1024 * 1024
_PEER_KEYS = {"node", "public-ip", "public-ipv6", "subnets", "backend-type", "backend-data"}


def create(scheme: str, location: str, options: StoreOptions) -> "StaticStore":
    """The store in the file after `static:`; it needs no options."""
    del options
    if not location:
        raise UsageError(f"{scheme}: needs a file, as in static:/etc/udplane/peers.toml")
    return StaticStore(Path(location))


@dataclass(frozen=True, slots=True)
class PeerFile:
    """What a peer file says, checked: the network config, as text and parsed, and one lease each peer."""

    network_text: str
    network: NetworkConfig
    leases: tuple[Lease, ...]

    @classmethod
    def parse(cls, data: bytes) -> "PeerFile":
        """Read a file's bytes; ConfigError names the peer and the key that are wrong."""
        try:
            document = tomllib.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"it is not valid TOML: {error}") from error
        unknown = document.keys() - {"network", "peer"}
        if unknown:
            raise ConfigError(f"it has the unknown table {min(unknown)!r}; only [network] and [[peer]] mean something")
        network_text = _to_json(document.get("network", {}), "[network]")
        network = NetworkConfig.parse(network_text)
        tables = document.get("peer", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ConfigError("peer must be written as [[peer]] tables")
        leases = tuple(_parse_peer(table, number, network) for number, table in enumerate(tables, 1))
        _refuse_overlaps(leases)
        return cls(network_text, network, leases)


class StaticStore(Store):
    """The leases of a peer file. Every call reads the file as it is then."""

    cuts_by_config = False

    def __init__(self, path: Path) -> None:
        self._path = path

    async def network_config(self) -> str:
        """The `[network]` table as net-conf JSON."""
        return (await self._load()).network_text

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        """Refused, unless only wanted where there is none: the file is for people to edit."""
        del text
        await self.network_config()
        if only_if_absent:
            return False
        raise StoreError(f"{self._path} is edited by hand; change its [network] table there, on every node")

    async def leases(self) -> list[Lease]:
        """One lease each peer, in the file's order."""
        return list((await self._load()).leases)

    async def acquire(self, request: AcquireRequest) -> Lease:
        """The node's own entry, by its name if one is given, else by its public IP."""
        file = await self._load()
        leases = file.leases
        named = (lease for lease in leases if request.node and lease.node == request.node)
        own = next(named, None) or own_lease(filter(request.owns, leases), file.network, request.previous)
        if own is None:
            who = " ".join(map(str, (request.node, *request.attrs.addresses))).strip()
            raise LeaseError(f"{self._path} lists no [[peer]] for this node ({who}); add one with its subnets")
        return replace(own, attrs=request.attrs)

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        """Check that the entry is still there."""
        for listed in (await self._load()).leases:
            if listed.subnets == lease.subnets:
                return replace(listed, attrs=attrs or lease.attrs)
        raise LeaseLostError(f"{self._path} lists {lease.subnets} no more; restart the node")

    async def release(self, lease: Lease) -> None:
        """Leave the entry in place: whoever wrote it takes it away."""

    async def close(self) -> None:
        """Nothing is kept open."""

    async def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a `Snapshot` now and after each edit that makes sense."""
        async with contextlib.aclosing(watch_by_polling(_FilePoller(self._path).poll)) as updates:
            async for update in updates:
                yield update

    async def _load(self) -> PeerFile:
        return await asyncio.to_thread(_read_peer_file, self._path)


class _FilePoller:
    """Reads the file again when its inode, size or time of change is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def poll(self) -> Snapshot | None:
        """The leases, if the file is not the one that was last read well."""
        try:
            status = self._path.stat()
            identity = status.st_ino, status.st_size, status.st_mtime_ns
        except OSError:
            identity = None  # reading it says what is wrong
        if identity is not None and identity == self._seen:
            return None
        self._seen = None
        snapshot = Snapshot(_read_peer_file(self._path).leases)
        self._seen = identity
        return snapshot


def _read_peer_file(path: Path) -> PeerFile:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise StoreError(f"cannot read the peer file {path}: {error.strerror}; put it there, readable") from error
    try:
        return PeerFile.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse_peer(table: dict[str, Any], number: int, network: NetworkConfig) -> Lease:
    name = f"peer {table.get('node', number)!r}"
    unknown = table.keys() - _PEER_KEYS
    if unknown:
        raise ConfigError(f"{name} has the unknown key {min(unknown)!r}; the keys are {', '.join(sorted(_PEER_KEYS))}")
    attrs = LeaseAttrs(
        public_ip=_parse_address(table, "public-ip", IPv4Address, name),
        public_ipv6=_parse_address(table, "public-ipv6", IPv6Address, name),
        backend_type=_text(table, "backend-type", name),
        backend_data=_to_json(table["backend-data"], f"{name}: backend-data") if "backend-data" in table else None,
    )
    if not attrs.addresses:
        raise ConfigError(f'{name} has no public address; add public-ip = "..." or public-ipv6 = "..."')
    return Lease(_parse_subnets(table, name, network), attrs, node=_text(table, "node", name))


def _parse_subnets(table: dict[str, Any], name: str, network: NetworkConfig) -> Subnets:
    """The peer's subnets, which must lie in the networks and be one of each enabled family."""
    texts = table.get("subnets")
    if not isinstance(texts, list) or not texts:
        raise ConfigError(f'{name} has no subnets; add subnets = ["10.5.1.0/24"], one of each family')
    try:
        subnets = Subnets.of(ip_network(text if isinstance(text, str) else "") for text in texts)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; give subnets such as 10.5.1.0/24, one of each family") from error
    if not network.contains(subnets):
        raise ConfigError(
            f"{name}: {subnets} does not fit; give one subnet of /30 (/126) or shorter inside each enabled network"
        )
    return subnets


def _refuse_overlaps(leases: tuple[Lease, ...]) -> None:
    """No two peers may share an address of a subnet, or a public address."""
    claims = [(subnet, lease) for lease in leases for subnet in lease.subnets]
    claims.sort(key=lambda claim: (claim[0].version, int(claim[0].network_address)))
    for (subnet, lease), (other_subnet, other) in itertools.pairwise(claims):
        if subnet.version == other_subnet.version and subnet.overlaps(other_subnet):
            raise ConfigError(f"the peers overlap: {lease} and {other}; give each its own subnet")
    owners: dict[Address, Lease] = {}
    for lease in leases:
        for address in lease.attrs.addresses:
            if address in owners:
                raise ConfigError(f"{owners[address]} and {lease} have one public address; give each peer its own")
            owners[address] = lease


def _parse_address(table: dict[str, Any], key: str, kind: type[OneFamily], name: str) -> OneFamily | None:
    text = _text(table, key, name)
    try:
        address = kind(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{name}: {key}: {error}") from error
    if address is not None and (trouble := trouble_with_host(address)):
        raise ConfigError(f"{name}: {key} {address} {trouble}; give the address at which the other nodes reach it")
    return address


def _text(table: dict[str, Any], key: str, name: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f'{name}: {key} must be a text in quotes, as in {key} = "..."')
    return value


def _to_json(value: Any, name: str) -> str:
    try:
        return gojson.dumps(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} holds a value that JSON does not have: {error}") from error
