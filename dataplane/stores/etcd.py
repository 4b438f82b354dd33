"""Leases in etcd v3, under flannel's keys and with flannel's values: real flanneld and udplane share one cluster.

    PREFIX/config                        the network config
    PREFIX/subnets/10.5.52.0-24          {"PublicIP":"192.168.64.3","PublicIPv6":null}

An expiring lease is a key attached to an etcd lease of 24 hours; renewing it is a new etcd lease and a write
of the key, as flannel does it. A key without an etcd lease is a reservation. How long a peer's lease lives is
not asked (it would be a call each peer): its `expires` is infinity, "etcd knows".

Races. A lease is created in a transaction that succeeds only if its key does not exist, and every later write
of it only if nobody wrote it meanwhile. Two keys may differ and their subnets overlap (two subnet lengths, two
pairs of families), so after creating a lease the node looks again, and withdraws it if an older one overlaps. A
lost race is tried again with another subnet.

Watch. First a list, then etcd's watch from the next revision on. When it breaks, is compacted, or was silent for
half a minute while etcd has changes, the store lists again; `LeaseTable` finds the differences.
"""

import asyncio
import contextlib
import logging
import math
import random
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from dataplane import clock
from dataplane.errors import ConfigError, LeaseLostError, NoNetworkConfigError, StoreError, UsageError
from dataplane.leases.allocation import allocate, own_lease, taken_subnets
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import AcquireRequest, Complaints, Outage, Snapshot, Store, StoreOptions, WatchUpdate
from dataplane.stores.etcd_gateway import CompactedError, Credentials, Gateway, KeyValue, WatchEvent, prefix_end
from dataplane.stores.http import Endpoint, tls_context
from dataplane.stores.retry import Retry

_log = logging.getLogger(__name__)

_RACE_RETRIES = 10
_SILENCE_SECONDS = 30.0
_DEFAULT_PORT = 2379
_REMEMBERED = 64
_ENDPOINT = re.compile(
    r"(?:(?P<host>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


def create(scheme: str, location: str, options: StoreOptions) -> "EtcdStore":
    """The store at `//HOST:PORT,...`, over TLS for the scheme `etcds` or when a certificate or CA is given."""
    tls = None
    if scheme == "etcds" or options.etcd_cafile or options.etcd_certfile:
        tls = _tls_context(options)
    endpoints = [_parse_endpoint(text, tls) for text in location.removeprefix("//").rstrip("/").split(",")]
    credentials = Credentials(options.etcd_username, options.etcd_password)
    return EtcdStore(Gateway(endpoints, credentials), options.etcd_prefix, lease_seconds=options.lease_seconds)


def _tls_context(options: StoreOptions) -> ssl.SSLContext:
    try:
        context = tls_context(cafile=options.etcd_cafile)
        if options.etcd_certfile:
            context.load_cert_chain(options.etcd_certfile, options.etcd_keyfile or None)
    except OSError as error:
        raise ConfigError(
            f"the TLS files for etcd cannot be used ({error.strerror or error}); "
            "check --etcd-cafile, --etcd-certfile and --etcd-keyfile"
        ) from error
    return context


def _parse_endpoint(text: str, tls: ssl.SSLContext | None) -> Endpoint:
    match = _ENDPOINT.fullmatch(text.strip())
    port = int(match["port"] or _DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise UsageError(f"{text!r} is no etcd endpoint; give etcd://HOST:PORT, several separated by commas")
    return Endpoint(match["host"] or match["ipv6"], port, tls)


class EtcdStore(Store):
    """A store below `prefix`. `clock` (see the module of that name) and `rng` are for tests."""

    def __init__(
        self,
        gateway: Gateway,
        prefix: str,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = clock.now,
        rng: random.Random | None = None,
    ) -> None:
        prefix = prefix.rstrip("/")
        self._gateway = gateway
        self._config_key = f"{prefix}/config"
        self._subnets = f"{prefix}/subnets/"
        self._subnets_end = prefix_end(self._subnets)
        self._lease_seconds = max(1, int(lease_seconds))
        self._clock = clock
        self._rng = rng or random.Random()
        self._complaints = Complaints(_log)
        self._own_key = ""
        self._granted: deque[int] = deque(maxlen=_REMEMBERED)  # the etcd leases that this node asked for
        self._deadlines: dict[int, float] = {}  # when etcd leases of the own key expire

    @property
    def ignored(self) -> Mapping[str, str]:
        """Keys that cannot be read."""
        return self._complaints.said

    async def network_config(self) -> str:
        """The text under PREFIX/config."""
        kvs, _ = await self._gateway.range(self._config_key)
        if not kvs:
            raise NoNetworkConfigError(
                f"etcd has no network config under {self._config_key}; put one there with `udplane config set FILE`"
            )
        return kvs[0].value.decode("utf-8", "replace")

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        """Write PREFIX/config."""
        NetworkConfig.parse(text)
        for _ in range(_RACE_RETRIES):
            kvs, _ = await self._gateway.range(self._config_key)
            if kvs and only_if_absent:
                return False
            if await self._gateway.put_if(self._config_key, text, kvs[0].mod_revision if kvs else 0, 0):
                return True
        raise StoreError("others kept changing the network config in etcd; try again", transient=True)

    async def leases(self) -> list[Lease]:
        """Every lease below PREFIX/subnets, by key."""
        entries, _ = await self._list()
        return [lease for _, lease in entries]

    async def acquire(self, request: AcquireRequest) -> Lease:
        """Take the node's own lease, its previous subnets, or free ones."""
        config = NetworkConfig.parse(await self.network_config())
        for _ in range(_RACE_RETRIES):
            lease = await self._try_acquire(config, request)
            if lease is not None:
                return lease
        raise StoreError(f"lost the race for a subnet {_RACE_RETRIES} times; trying again", transient=True)

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        """Attach the key to a new etcd lease; a reservation is written as it is."""
        kv, held = await self._find(lease)
        if kv is None:
            raise LeaseLostError(f"the lease of {lease.subnets} is gone from etcd; restart the node")
        if held is None or not held.attrs.same_node(lease.attrs):
            raise LeaseLostError(
                f"the subnet {lease.subnets} belongs to {held or 'nobody known'} now; restart the node"
            )
        renewed = await self._write(lease.subnets, attrs or lease.attrs, kv)
        if renewed is None:
            raise StoreError(f"the lease of {lease.subnets} was changed while it was renewed", transient=True)
        return renewed

    async def release(self, lease: Lease) -> None:
        """Delete the key, if it is still this node's; a reservation stays."""
        kv, held = await self._find(lease)
        if kv is not None and kv.lease != 0 and held is not None and held.attrs.same_node(lease.attrs):
            await self._gateway.delete_if(kv.key, kv.mod_revision)

    async def close(self) -> None:
        """Close connections."""
        await self._gateway.close()

    async def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a `Snapshot`, then events, and a new `Snapshot` whenever the watch had to begin anew."""
        retry, reported = Retry(), ""
        while True:
            try:
                kvs, revision = await self._gateway.range(self._subnets, self._subnets_end)
                self._complaints.only({_entry(kv) for kv in kvs})
                yield Snapshot(tuple([lease for kv in kvs if (lease := await self._read(kv)) is not None]))
                reported = ""
                async with contextlib.aclosing(self._changes({kv.key for kv in kvs}, revision)) as changes:
                    async for change in changes:
                        retry.worked()
                        yield change
            except _WatchEndedError as error:
                _log.info("%s", error)
            except StoreError as error:
                if str(error) != reported:
                    reported = str(error)
                    yield Outage(error)
            await retry.pause()

    async def _changes(self, keys: set[str], revision: int) -> AsyncGenerator[LeaseEvent, None]:
        """What happens to the leases after `revision`, when `keys` were there; ends with _WatchEndedError."""
        watch = self._gateway.watch(self._subnets, self._subnets_end, revision + 1)
        events: asyncio.Task[list[WatchEvent]] | None = None
        try:
            while True:
                events = events or asyncio.ensure_future(anext(watch))
                await asyncio.wait({events}, timeout=_SILENCE_SECONDS)
                if not events.done():
                    if await self._gateway.changed_since(self._subnets, self._subnets_end, revision, len(keys)):
                        raise _WatchEndedError("etcd has changes that its watch did not report; watching anew")
                    continue
                for event in events.result():
                    revision = max(revision, event.kv.mod_revision)
                    (keys.discard if event.deleted else keys.add)(event.kv.key)
                    if (change := await self._read_event(event)) is not None:
                        yield change
                events = None
        except (CompactedError, StoreError) as error:
            raise _WatchEndedError(str(error)) from error
        finally:
            if events is not None:
                events.cancel()
                await asyncio.gather(events, return_exceptions=True)
            await watch.aclose()

    async def _try_acquire(self, config: NetworkConfig, request: AcquireRequest) -> Lease | None:
        """One attempt; None if somebody else was faster."""
        entries, _ = await self._list()
        own = own_lease((lease for _, lease in entries if request.owns(lease)), config, request.previous)
        if own is not None:
            kv = next(kv for kv, lease in entries if lease is own)
            if config.accepts(own.subnets):
                return await self._write(own.subnets, request.attrs, kv)
            await self._gateway.delete_if(kv.key, kv.mod_revision)
        taken = taken_subnets((lease for _, lease in entries if lease is not own), config)
        lease = await self._write(allocate(config, taken, request.previous, self._rng), request.attrs, None)
        return None if lease is None or await self._withdraw_if_later(lease, config) else lease

    async def _withdraw_if_later(self, lease: Lease, config: NetworkConfig) -> bool:
        """Delete the lease just created if an older one overlaps it; True if so, or if it is gone already."""
        entries, _ = await self._list()
        mine = next((kv for kv, other in entries if other.key == lease.key), None)
        if mine is None:
            return True
        older = (other for kv, other in entries if kv.create_revision < mine.create_revision)
        if not any(subnets.overlaps(lease.subnets) for subnets in taken_subnets(older, config)):
            return False
        await self._gateway.delete_if(mine.key, mine.mod_revision)
        return True

    async def _write(self, subnets: Subnets, attrs: LeaseAttrs, existing: KeyValue | None) -> Lease | None:
        """Create the lease, or write it anew if it is still `existing`; None if somebody else changed it."""
        key, number, expires = self._subnets + subnets.key, 0, None
        if existing is None or existing.lease != 0:
            asked_at = self._clock()
            number, seconds = await self._gateway.grant(self._lease_seconds)
            expires = asked_at + seconds
            # Whether the write below succeeds may never be known.
            self._granted.append(number)
            self._deadlines = {number: expires}
        lease = Lease(subnets, attrs, expires, mark=_mark(number))
        if not await self._gateway.put_if(key, attrs.to_json(), existing.mod_revision if existing else 0, number):
            # A write whose answer was lost is tried on the next member, and fails there because it succeeded.
            kvs, _ = await self._gateway.range(key)
            if not kvs or (kvs[0].lease, kvs[0].value) != (number, attrs.to_json().encode()):
                if number != 0:
                    await self._gateway.revoke(number)
                return None
        self._own_key = key
        return lease

    async def _list(self) -> tuple[list[tuple[KeyValue, Lease]], int]:
        """All readable leases with their keys, and the revision of that list."""
        kvs, revision = await self._gateway.range(self._subnets, self._subnets_end)
        return [(kv, lease) for kv in kvs if (lease := await self._read(kv)) is not None], revision

    async def _find(self, lease: Lease) -> tuple[KeyValue | None, Lease | None]:
        """What is under the key of `lease` now: the key, if there is one, and the lease, if it can be read."""
        kvs, _ = await self._gateway.range(self._subnets + lease.key)
        return (kvs[0], await self._read(kvs[0])) if kvs else (None, None)

    async def _read(self, kv: KeyValue) -> Lease | None:
        """The lease that `kv` holds; None, after saying so, if it holds none."""
        try:
            subnets, attrs = Subnets.from_key(kv.key.removeprefix(self._subnets)), LeaseAttrs.from_json(kv.value)
        except ConfigError as error:
            self._complaints.say(_entry(kv), str(error))
            return None
        self._complaints.settled(_entry(kv))
        rewritten = kv.key == self._own_key and kv.lease != 0 and kv.lease not in self._granted
        expires = await self._expiry(kv)
        return Lease(subnets, attrs, expires, since=kv.create_revision, mark=_mark(kv.lease), rewritten=rewritten)

    async def _expiry(self, kv: KeyValue) -> float | None:
        """When the key expires: asked only if it is the node's own and somebody else attached it to an etcd lease."""
        if kv.lease == 0:
            return None
        if kv.key != self._own_key:
            return math.inf
        if kv.lease not in self._deadlines:
            asked_at = self._clock()
            self._deadlines = {kv.lease: asked_at + await self._gateway.time_to_live(kv.lease)}
        return self._deadlines[kv.lease]

    async def _read_event(self, event: WatchEvent) -> LeaseEvent | None:
        if not event.deleted:
            lease = await self._read(event.kv)
            return None if lease is None else LeaseEvent(Change.ADDED, lease)
        self._complaints.settled(_entry(event.kv))
        try:
            subnets = Subnets.from_key(event.kv.key.removeprefix(self._subnets))
        except ConfigError:
            return None
        return LeaseEvent(Change.REMOVED, Lease(subnets, LeaseAttrs()))


def _entry(kv: KeyValue) -> str:
    return f"{kv.key!r} in etcd"


def _mark(number: int) -> str:
    """Every write of a lease comes with an etcd lease of its own; a reservation has none, and no mark."""
    return str(number) if number else ""


class _WatchEndedError(Exception):
    """The watch has to begin anew; the text says why."""
