"""The etcd store against real etcd: flannel's bytes, races, outages, and what a person did wrong."""

import asyncio
import contextlib
import math
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from dataplane.errors import ConfigError, LeaseError, LeaseLostError, NoNetworkConfigError, StoreError, UsageError
from dataplane.leases.lease import Change, Lease, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import Outage, Snapshot, StoreOptions
from dataplane.stores.etcd import EtcdStore
from dataplane.stores.etcd_gateway import Credentials, Gateway, KeyValue, WatchEvent
from dataplane.stores.http import Endpoint
from dataplane.stores.registry import open_store
from tests.stores.etcd_server import EtcdMember, etcd_cluster, relay, store_at
from tests.stores.helpers import list_once, request, run, watching

CONFIG = '{"Network":"10.5.0.0/16"}'
VALUE = '{"PublicIP":"192.168.0.1","PublicIPv6":null}'
LONG = os.environ.get("UDPLANE_TEST_LONG") == "1"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1) as (member,):
        yield member


@pytest.fixture
def prefix(etcd: EtcdMember, request: pytest.FixtureRequest) -> str:
    """A prefix that no other test uses, with a network config below it."""
    prefix = f"/{request.node.name}/network"
    etcd.put(f"{prefix}/config", CONFIG)
    return prefix


def test_keys_and_values_are_flannels(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        lease = await store.acquire(request(1, previous="10.5.52.0/24"))
        await store.close()
        content = etcd.dump(prefix)
        assert content.keys() == {f"{prefix}/config", f"{prefix}/subnets/10.5.52.0-24"}
        value, etcd_lease = content[f"{prefix}/subnets/10.5.52.0-24"]
        assert value == VALUE
        granted = etcd.post("lease/timetolive", {"ID": str(etcd_lease)})
        assert granted["grantedTTL"] == "86400"
        assert lease.subnets == Subnets(IPv4Network("10.5.52.0/24"))

    run(story())


def test_everything_that_flannel_writes_is_read(
    etcd: EtcdMember, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    vxlan = '{"PublicIP":"192.168.0.2","PublicIPv6":"fd01::2","BackendType":"vxlan","BackendData":{"VNI":1}}'
    etcd_lease = int(etcd.post("lease/grant", {"TTL": "1000"})["ID"])
    etcd.put(f"{prefix}/subnets/10.5.1.0-24", VALUE)
    etcd.put(f"{prefix}/subnets/10.5.2.0-24&fd00:2::-64", vxlan, etcd_lease)
    etcd.put(f"{prefix}/subnets/10.5.3.0-24", '{"PublicIP":"192.168.0.3"}', etcd_lease)
    etcd.put(f"{prefix}/subnets/nonsense", VALUE)
    etcd.put(f"{prefix}/subnets/10.5.4.0-24", "not json")
    leases = asyncio.run(list_once(store_at(etcd.client_port, prefix)))
    assert [(lease.key, lease.expires) for lease in leases] == [
        ("10.5.1.0-24", None),
        ("10.5.2.0-24&fd00:2::-64", math.inf),
        ("10.5.3.0-24", math.inf),
    ]
    assert [lease.attrs.to_json() for lease in leases] == [VALUE, vxlan, VALUE.replace("0.1", "0.3")]
    assert "subnets/nonsense" in caplog.text
    assert "subnets/10.5.4.0-24" in caplog.text


def test_the_network_config_lives_under_the_prefix(etcd: EtcdMember) -> None:
    async def story() -> None:
        options = StoreOptions(etcd_prefix="/config-test/network/")
        store = open_store(f"etcd://127.0.0.1:{etcd.client_port}", options)
        with pytest.raises(NoNetworkConfigError, match="under /config-test/network/config; put one there"):
            await store.network_config()
        with pytest.raises(ConfigError):
            await store.set_network_config("{}")
        assert await store.set_network_config(CONFIG, only_if_absent=True)
        assert not await store.set_network_config('{"Network":"10.6.0.0/16"}', only_if_absent=True)
        assert await store.set_network_config('{"Network":"10.7.0.0/16"}')
        assert await store.network_config() == '{"Network":"10.7.0.0/16"}'
        assert etcd.dump("/config-test/network") == {"/config-test/network/config": ('{"Network":"10.7.0.0/16"}', 0)}
        await store.close()

    run(story())


def test_a_node_gets_its_subnet_back_and_a_reservation_stays_one(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        first = await store.acquire(request(1))
        assert (await store.acquire(request(1, previous="10.5.77.0/24"))).subnets == first.subnets
        etcd.put(f"{prefix}/subnets/{first.key}", VALUE)  # an operator turns it into a reservation
        reserved = await store.acquire(request(1))
        assert reserved == replace(first, expires=None)
        assert await store.renew(reserved) == reserved
        await store.release(reserved)
        assert etcd.dump(prefix)[f"{prefix}/subnets/{first.key}"] == (VALUE, 0)
        await store.close()

    run(story())


def test_a_lease_that_does_not_fit_a_new_config_is_replaced(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        await store.acquire(request(1))
        await store.set_network_config('{"Network":"10.6.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:6::/48"}')
        lease = await store.acquire(request(1))
        assert lease.subnets.ipv6 is not None
        assert [held.key for held in await store.leases()] == [lease.key]
        await store.close()

    run(story())


def test_nodes_that_ask_at_once_get_different_subnets(etcd: EtcdMember, prefix: str) -> None:
    etcd.put(f"{prefix}/config", '{"Network":"10.5.0.0/24","SubnetLen":28}')

    async def story() -> None:
        stores = [store_at(etcd.client_port, prefix) for _ in range(15)]

        async def acquire(number: int) -> Lease:
            while True:
                try:
                    return await stores[number].acquire(request(number))
                except StoreError as error:
                    assert error.transient

        leases = await asyncio.gather(*map(acquire, range(15)))
        assert len({lease.key for lease in leases}) == 15
        assert {lease.key for lease in await stores[0].leases()} == {lease.key for lease in leases}
        with pytest.raises(LeaseError, match=r"all 15 subnets of 10.5.0.0/24 are taken"):
            await stores[0].acquire(request(99))
        for store in stores:
            await store.close()

    run(story())


def test_overlapping_leases_under_different_keys_do_not_both_stay(etcd: EtcdMember, prefix: str) -> None:
    config = NetworkConfig.parse('{"Network":"10.5.0.0/24","SubnetLen":26}')

    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        mine = Lease(Subnets(IPv4Network("10.5.0.64/26")), request(1).attrs)
        assert not await store._withdraw_if_later(await written(store, mine), config)
        etcd.put(f"{prefix}/subnets/10.5.0.64-26&fd00::-64", VALUE.replace("0.1", "0.2"))
        assert not await store._withdraw_if_later(mine, config)
        later = Lease(Subnets(IPv4Network("10.5.0.0/25"), IPv6Network("fd00:9::/64")), request(3).attrs)
        assert await store._withdraw_if_later(await written(store, later), config)
        assert sorted(etcd.dump(f"{prefix}/subnets")) == [
            f"{prefix}/subnets/10.5.0.64-26",
            f"{prefix}/subnets/10.5.0.64-26&fd00::-64",
        ]
        await store.close()

    async def written(store: EtcdStore, lease: Lease) -> Lease:
        created = await store._write(lease.subnets, lease.attrs, None)
        assert created is not None
        return created

    run(story())


def test_renewal_is_a_new_etcd_lease_and_notices_what_happened_meanwhile(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        lease = await store.acquire(request(1))
        key = f"{prefix}/subnets/{lease.key}"
        (_, before) = etcd.dump(prefix)[key]
        renewed = await store.renew(lease)
        (_, after) = etcd.dump(prefix)[key]
        assert before != after != 0
        assert renewed.expires is not None
        assert lease.expires is not None
        assert renewed.expires >= lease.expires
        moved = await store.renew(renewed, replace(lease.attrs, public_ip=IPv4Address("192.168.0.9")))
        assert etcd.dump(prefix)[key][0] == VALUE.replace("0.1", "0.9")
        with pytest.raises(LeaseLostError, match=r"belongs to .* 192.168.0.9"):
            await store.renew(lease)
        await store.release(lease)
        assert key in etcd.dump(prefix)
        await store.release(moved)
        assert key not in etcd.dump(prefix)
        with pytest.raises(LeaseLostError, match="is gone from etcd"):
            await store.renew(moved)
        await store.release(moved)
        await store.close()

    run(story())


class AnswerLost(Gateway):
    """A gateway whose answer to the next conditional write is lost, so that the write is tried twice."""

    async def put_if(self, key: str, value: str, mod_revision: int, lease: int) -> bool:
        await super().put_if(key, value, mod_revision, lease)
        return await super().put_if(key, value, mod_revision, lease)


def test_a_write_whose_answer_was_lost_is_not_taken_for_a_lost_race(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        gateway = AnswerLost([Endpoint("127.0.0.1", etcd.client_port)], Credentials())
        store = EtcdStore(gateway, prefix, lease_seconds=86400)
        lease = await store.acquire(request(1))
        renewed = await store.renew(lease)
        assert [held.key for held in await store.leases()] == [renewed.key] == [lease.key]
        await store.close()

    run(story())


def test_the_watch_reports_every_change(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store, other = store_at(etcd.client_port, prefix), store_at(etcd.client_port, prefix)
        own = await store.acquire(request(1))
        async with contextlib.aclosing(store.watch()) as watch:
            assert await anext(watch) == Snapshot((own,))
            lease = await other.acquire(request(2))
            assert await anext(watch) == LeaseEvent(Change.ADDED, replace(lease, expires=math.inf))
            await other.release(lease)
            gone = await anext(watch)
            assert isinstance(gone, LeaseEvent)
            assert (gone.change, gone.lease.subnets) == (Change.REMOVED, lease.subnets)
            shorter = int(etcd.post("lease/grant", {"TTL": "500"})["ID"])
            etcd.put(f"{prefix}/subnets/{own.key}", VALUE, shorter)
            seen = await anext(watch)
            assert isinstance(seen, LeaseEvent)
            assert own.expires is not None
            assert seen.lease.expires is not None
            assert seen.lease.expires < own.expires - 80_000
        for one in (store, other):
            await one.close()

    run(story())


def test_a_lease_that_is_not_renewed_expires(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix, lease_seconds=1)
        async with watching(store) as seen:
            lease = await store.acquire(request(1))
            gone = await seen(lambda it: isinstance(it, LeaseEvent) and it.change is Change.REMOVED)
            assert isinstance(gone, LeaseEvent)
            assert gone.lease.subnets == lease.subnets
        await store.close()

    run(story())


def test_a_compaction_while_the_watch_is_down_costs_nothing(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        async with relay(etcd.client_port) as link:
            store = store_at(link.port, prefix)
            lease = await store.acquire(request(1))
            async with watching(store) as seen:
                assert await seen(lambda _: True) == Snapshot((lease,))
                await link.cut()
                outage = await seen(lambda it: isinstance(it, Outage))
                assert isinstance(outage, Outage)
                assert "etcd is out of reach" in str(outage.error)
                etcd.put(f"{prefix}/subnets/10.5.250.0-24", VALUE.replace("0.1", "0.2"))
                etcd.delete(f"{prefix}/subnets/{lease.key}")
                etcd.compact()
                await link.mend()
                back = await seen(lambda it: isinstance(it, Snapshot))
                assert isinstance(back, Snapshot)
                assert [held.key for held in back.leases] == ["10.5.250.0-24"]
            await store.close()

    run(story())


def test_a_watch_from_a_compacted_revision_begins_anew(etcd: EtcdMember, prefix: str) -> None:
    async def story() -> None:
        store = store_at(etcd.client_port, prefix)
        etcd.compact()
        entries, revision = await store._list()
        assert entries == []
        changes = store._changes(set(), revision - 5)
        with pytest.raises(Exception, match="etcd has compacted the changes"):
            await anext(changes)
        await store.close()

    run(story())


class Deaf(Gateway):
    """A gateway whose watches never report anything."""

    async def watch(self, key: str, end: str, start_revision: int) -> AsyncGenerator[list[WatchEvent], None]:
        async with contextlib.aclosing(super().watch(f"{key}/deaf", f"{end}/deaf", start_revision)) as nothing:
            async for events in nothing:
                yield [event for event in events if not event]


class Counting(Gateway):
    """A gateway that counts what the node asks for."""

    def __init__(self, port: int) -> None:
        super().__init__([Endpoint("127.0.0.1", port)], Credentials())
        self.counts: Counter[str] = Counter()

    async def range(self, key: str, end: str | None = None) -> tuple[list[KeyValue], int]:
        self.counts["lists"] += end is not None
        return await super().range(key, end)

    async def changed_since(self, key: str, end: str, revision: int, count: int) -> bool:
        self.counts["looks"] += 1
        return await super().changed_since(key, end, revision, count)

    async def watch(self, key: str, end: str, start_revision: int) -> AsyncGenerator[list[WatchEvent], None]:
        self.counts["watches"] += 1
        async with contextlib.aclosing(super().watch(key, end, start_revision)) as events:
            async for some in events:
                yield some


def test_a_quiet_etcd_is_listed_and_watched_once(
    etcd: EtcdMember, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times nothing comes for as long as it takes to wonder: five minutes, if UDPLANE_TEST_LONG=1 asks for them."""
    if not LONG:
        monkeypatch.setattr("dataplane.stores.etcd._SILENCE_SECONDS", 0.05)

    async def story() -> None:
        gateway = Counting(etcd.client_port)

        async def looked(times: int) -> None:
            while gateway.counts["looks"] < times:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)

        store = EtcdStore(gateway, prefix, lease_seconds=86400)
        etcd.put(f"{prefix}/subnets/10.5.77.0-24", VALUE)
        etcd.put(f"{prefix}/subnets/10.5.78.0-24", VALUE)
        async with contextlib.aclosing(store.watch()) as watch:
            assert isinstance(await anext(watch), Snapshot)
            change = asyncio.ensure_future(anext(watch))
            for n_looks in range(1, 11):
                await looked(n_looks)
                etcd.put(f"{prefix}-of-others/key", "value")  # etcd's own revision moves on
            assert gateway.counts == {"lists": 1, "watches": 1, "looks": gateway.counts["looks"]}
            etcd.delete(f"{prefix}/subnets/10.5.77.0-24")
            assert isinstance(await change, LeaseEvent)
            looks = gateway.counts["looks"]
            change = asyncio.ensure_future(anext(watch))
            await looked(looks + 2)
            assert (gateway.counts["lists"], gateway.counts["watches"]) == (1, 1)
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 600 if LONG else 30))


def test_a_watch_that_is_silent_although_there_are_changes_is_dead(
    etcd: EtcdMember, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataplane.stores.etcd._SILENCE_SECONDS", 0.2)

    async def story() -> None:
        store = EtcdStore(Deaf([Endpoint("127.0.0.1", etcd.client_port)], Credentials()), prefix, lease_seconds=86400)
        async with watching(store) as seen:
            assert await seen(lambda _: True) == Snapshot(())
            lease = await store.acquire(request(1))
            assert await seen(lambda _: True) == Snapshot((lease,))
            await store.release(lease)
            assert await seen(lambda _: True) == Snapshot(())
        await store.close()

    run(story())


def test_nobody_there_is_one_line_that_can_pass() -> None:
    with pytest.raises(
        StoreError, match=r"etcd is out of reach: http://127.0.0.1:1 cannot be reached: Connection refused;"
    ) as caught:
        asyncio.run(store_at(1, "/none").leases())
    assert caught.value.transient


@pytest.mark.parametrize("location", ["", "//", "//:2379", "//host:0", "//host:99999", "//a,,b", "//ho st:1", "//h:x"])
def test_an_endpoint_that_cannot_be_is_wrong_usage(location: str) -> None:
    with pytest.raises(UsageError, match="is no etcd endpoint; give etcd://HOST:PORT"):
        open_store(f"etcd:{location}")


def test_tls_files_that_are_missing_are_one_line(tmp_path: Path) -> None:
    for options in (StoreOptions(etcd_cafile=str(tmp_path / "ca")), StoreOptions(etcd_certfile=str(tmp_path / "cert"))):
        with pytest.raises(ConfigError, match="check --etcd-cafile, --etcd-certfile and --etcd-keyfile"):
            open_store("etcds://127.0.0.1:2379", options)
