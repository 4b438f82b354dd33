"""Two nodes with one public address, which every store takes for one node: both notice, and do not fight."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.leases.gate import LeaseGate
from dataplane.leases.lease import Lease, LeaseAttrs, LeaseEvent
from dataplane.leases.network_config import NetworkConfig
from dataplane.node.membership import Membership
from dataplane.stores.base import AcquireRequest, Snapshot, Store, StoreOptions, WatchUpdate
from dataplane.stores.registry import open_store
from tests.stores.etcd_server import etcd_cluster
from tests.stores.helpers import run

CONFIG = '{"Network": "10.5.0.0/16"}'


class CountingStore:
    """A store that counts how often the node writes its lease."""

    def __init__(self, store: Store) -> None:
        self.store, self.n_writes = store, 0

    def __getattr__(self, name: str) -> object:
        self.n_writes += name in ("acquire", "renew")
        return getattr(self.store, name)


class NoHost:
    """A host that takes everything."""

    async def take_up(self, lease: Lease) -> None: ...

    def remember(self, lease: Lease) -> None: ...

    async def apply(self, changes: list[LeaseEvent]) -> None: ...


@pytest.fixture(params=["sqlite", "etcd"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[CountingStore]]:
    if request.param == "sqlite":
        yield [CountingStore(open_store(f"sqlite:{tmp_path}/store.db")) for _ in range(3)]
        return
    with etcd_cluster(tmp_path, 1) as (member,):
        url = f"etcd://127.0.0.1:{member.client_port}"
        yield [CountingStore(open_store(url, StoreOptions(etcd_prefix="/one/address"))) for _ in range(3)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - no event tells of it: the state is the code's under test
            await asyncio.sleep(0.01)


def test_a_node_knows_its_own_renewals_from_others(stores: list[CountingStore]) -> None:
    request = AcquireRequest(LeaseAttrs(IPv4Address("192.168.0.1")))
    one, other, _ = (it.store for it in stores)

    async def story() -> None:
        await one.set_network_config(CONFIG)
        lease = await one.acquire(request)
        async with contextlib.aclosing(one.watch()) as watch:
            for writer, expected in ((one, False), (other, True), (one, False)):
                lease = await writer.renew(lease)

                def shows(update: WatchUpdate, mark: str = lease.mark) -> bool:
                    return any(seen.mark == mark for seen in _leases(update))

                async with asyncio.timeout(10):
                    update = await anext(watch)
                    while not shows(update):
                        update = await anext(watch)
                assert [seen.rewritten for seen in _leases(update)] == [expected]
        for store in (one, other):
            await store.close()

    run(story())


def _leases(update: WatchUpdate) -> Sequence[Lease]:
    if isinstance(update, Snapshot):
        return update.leases
    return [update.lease] if isinstance(update, LeaseEvent) else []


def test_both_nodes_notice_and_do_not_fight(stores: list[CountingStore]) -> None:
    request = AcquireRequest(LeaseAttrs(IPv4Address("192.168.0.1")))
    third = AcquireRequest(LeaseAttrs(IPv4Address("192.168.0.3")))

    async def story() -> None:
        gate = LeaseGate(NetworkConfig.parse(CONFIG))
        nodes = [Membership(it, NoHost(), gate, lambda _: request, 3600) for it in stores[:2]]  # type: ignore[arg-type]
        tasks = []
        try:
            await stores[0].store.set_network_config(CONFIG)
            for node in nodes:
                await node.join()
                tasks += [asyncio.create_task(node.keep_lease()), asyncio.create_task(node.follow_peers())]
            await until(lambda: all(node.keeper.rival for node in nodes))
            await until(lambda: all(it.n_writes == 2 for it in stores[:2]))
            late = await stores[2].store.acquire(third)
            await until(lambda: all(node.table is not None and late.key in node.table.peers for node in nodes))
            assert [it.n_writes for it in stores[:2]] == [2, 2]
            assert all("another node has the public address 192.168.0.1 too" in node.keeper.rival for node in nodes)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for store in stores:
                await store.store.close()

    run(story())
