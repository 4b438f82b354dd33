"""The node as a member of its cluster, with a store and a host that are played: leases come, go and are taken away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dataplane import clock
from dataplane.errors import LeaseError, LeaseLostError, StoreError, UdplaneError
from dataplane.leases.gate import LeaseGate
from dataplane.leases.keeper import State
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.node.membership import Membership
from dataplane.stores.base import AcquireRequest, Outage, Snapshot, Store, WatchUpdate

HOUR = 3600.0
SHORT = 3.0
"""Seconds; a busy machine may stand still for half of them."""


def lease(number: int, owner: int, seconds: float = 24 * HOUR) -> Lease:
    """10.5.NUMBER.0/24 of the node 192.168.0.OWNER."""
    subnets = Subnets(IPv4Network(f"10.5.{number}.0/24"))
    return Lease(subnets, LeaseAttrs(public_ip=IPv4Address(f"192.168.0.{owner}")), clock.now() + seconds)


GATE = LeaseGate(NetworkConfig.parse('{"Network": "10.5.0.0/16"}'))
OWN, OTHER, THIRD = lease(1, 1), lease(2, 2), lease(3, 3)


class PlayedStore(Store):
    """Grants what the test has put into `grants`, errors included; reports what the test puts into `updates`."""

    def __init__(self, *grants: Lease | UdplaneError) -> None:
        self.grants = list(grants)
        self.requests: list[AcquireRequest | Lease] = []
        self.updates: asyncio.Queue[WatchUpdate] = asyncio.Queue()
        self.told_ready: list[Lease] = []

    async def acquire(self, request: AcquireRequest) -> Lease:
        return self._answer(request)

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        assert attrs is None
        return self._answer(lease)

    async def ready(self, lease: Lease) -> None:
        self.told_ready.append(lease)
        raise StoreError("nobody listens", transient=True)

    async def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        while True:
            yield await self.updates.get()

    async def network_config(self) -> str:
        raise NotImplementedError

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        raise NotImplementedError

    async def leases(self) -> list[Lease]:
        raise NotImplementedError

    async def release(self, lease: Lease) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def _answer(self, request: AcquireRequest | Lease) -> Lease:
        self.requests.append(request)
        answer = self.grants.pop(0)
        if isinstance(answer, UdplaneError):
            raise answer
        return answer


class PlayedHost:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.taken_up: list[Lease] = []
        self.remembered: list[Lease] = []
        self.peers: dict[str, Lease] = {}
        self.batches: list[int] = []
        """The number of changes in each call of `apply`."""

    async def take_up(self, own: Lease) -> None:
        self.taken_up.append(own)

    def remember(self, own: Lease) -> None:
        self.remembered.append(own)

    async def apply(self, changes: list[LeaseEvent]) -> None:
        self.batches.append(len(changes))
        for event in changes:
            if event.change in (Change.ADDED, Change.CHANGED):
                self.peers[event.lease.key] = event.lease
            elif event.change is Change.REMOVED:
                del self.peers[event.lease.key]


Scenario = Callable[[Membership, PlayedStore, PlayedHost], Awaitable[None]]


def play(
    scenario: Scenario, *grants: Lease | UdplaneError, margin: float = HOUR, before: Subnets | None = None
) -> None:
    """Let a node that had the subnets `before` join with the first of `grants` and run on while `scenario` happens."""

    async def run() -> None:
        store, host = PlayedStore(*grants), PlayedHost()
        membership = Membership(store, host, GATE, lambda last: AcquireRequest(OWN.attrs, last or before), margin)
        async with asyncio.timeout(10):
            await membership.join()
            tasks = [asyncio.create_task(membership.keep_lease()), asyncio.create_task(membership.follow_peers())]
            try:
                await scenario(membership, store, host)
            finally:
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - no event tells of it: the state is the code's under test
        await asyncio.sleep(0)


def test_a_lease_is_taken_up_and_remembered() -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        assert membership.keeper.state is State.HELD
        assert host.taken_up == host.remembered == store.told_ready == [OWN]

    play(scenario, OWN)


def test_peers_are_followed() -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: host.peers == {OTHER.key: OTHER})
        moved = replace(OTHER, attrs=LeaseAttrs(public_ip=IPv4Address("192.168.0.99")))
        store.updates.put_nowait(LeaseEvent(Change.CHANGED, moved))
        await until(lambda: host.peers == {OTHER.key: moved})
        store.updates.put_nowait(LeaseEvent(Change.REMOVED, moved))
        await until(lambda: not host.peers)
        assert host.taken_up == [OWN]

    play(scenario, OWN)


def test_a_storm_of_changes_is_taken_in_at_once_and_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    peers = [lease(number, number) for number in range(2, 102)]
    caplog.set_level("INFO")

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN,)))
        await until(lambda: host.batches)
        for peer in peers:
            store.updates.put_nowait(LeaseEvent(Change.ADDED, peer))
        await until(lambda: len(host.peers) == len(peers))
        assert len(host.batches) < 10

    play(scenario, OWN)
    assert len([record for record in caplog.records if "peer" in record.message]) < 10


def test_an_outage_is_said_and_changes_nothing() -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: host.peers)
        store.updates.put_nowait(Outage(StoreError("it is down", transient=True)))
        await until(lambda: membership.store_trouble == "it is down")
        assert host.peers == {OTHER.key: OTHER}
        assert membership.keeper.state is State.HELD
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: membership.store_trouble == "")

    play(scenario, OWN)


def test_a_revoked_lease_that_is_free_is_taken_again_without_a_change_on_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: host.peers)
        store.updates.put_nowait(LeaseEvent(Change.REMOVED, OWN))
        await until(lambda: len(store.requests) == 2 and membership.keeper.state is State.HELD)
        assert store.requests[1] == AcquireRequest(OWN.attrs, OWN.subnets)
        assert host.taken_up == [OWN]
        assert host.peers == {OTHER.key: OTHER}

    play(scenario, OWN, OWN)
    lost = caplog.text.index("lease lost: the lease of 10.5.1.0/24 was revoked")
    assert "the lease of 10.5.1.0/24 is granted again" in caplog.text[lost:]


def test_another_subnet_than_before_the_restart_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        assert membership.lease == OWN

    play(scenario, OWN, before=OTHER.subnets)
    assert "this node's subnet was 10.5.2.0/24 and is 10.5.1.0/24 now; start its pods anew" in caplog.text
    caplog.clear()
    play(scenario, OWN, before=OWN.subnets)
    play(scenario, OWN)
    assert "start its pods anew" not in caplog.text


def test_a_lease_that_somebody_else_renews_is_said_and_renewed_once(caplog: pytest.LogCaptureFixture) -> None:
    theirs = [replace(lease(1, 1, seconds=24 * HOUR + more), rewritten=True) for more in (1, 2, 3)]
    ours = lease(1, 1, seconds=25 * HOUR)

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        for written in theirs:
            store.updates.put_nowait(Snapshot((written, OTHER)))
            await until(lambda: len(store.requests) == 2 and store.updates.empty())
        await until(lambda: membership.keeper.lease in (ours, theirs[-1]))
        assert "another node has the public address 192.168.0.1 too" in membership.keeper.rival
        assert len(host.taken_up) == 1

    play(scenario, OWN, ours)
    assert caplog.text.count("somebody else renews this node's lease of 10.5.1.0/24") == 1


def test_a_subnet_that_went_to_somebody_else_makes_the_node_move(caplog: pytest.LogCaptureFixture) -> None:
    new = lease(9, 1)
    thief = replace(OWN, attrs=OTHER.attrs)

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, THIRD)))
        await until(lambda: host.peers)
        store.updates.put_nowait(Snapshot((thief, THIRD)))
        await until(lambda: membership.lease == new)
        assert host.taken_up == [OWN, new]
        store.updates.put_nowait(Snapshot((new, thief, THIRD)))
        await until(lambda: host.peers == {THIRD.key: THIRD, thief.key: thief})

    play(scenario, OWN, new)
    assert "lease lost: the subnet 10.5.1.0/24 was taken by" in caplog.text
    assert "this node's subnet was 10.5.1.0/24 and is 10.5.9.0/24 now; start its pods anew" in caplog.text


def test_traffic_goes_on_while_a_lost_lease_cannot_be_replaced() -> None:
    full = LeaseError("the network is used up")

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: host.peers)
        store.updates.put_nowait(Snapshot((OTHER,)))
        await until(lambda: membership.keeper.reason == "the network is used up")
        assert membership.keeper.state is State.ACQUIRING
        assert membership.lease == OWN
        assert host.peers == {OTHER.key: OTHER}

    play(scenario, OWN, full)


def test_a_lease_is_renewed_before_it_expires() -> None:
    """One that is short is renewed after half of its life."""
    renewed = lease(1, 1)

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        await until(lambda: membership.lease == renewed)
        assert store.requests[1:] == [host.remembered[0]]
        assert (len(host.taken_up), host.remembered[1]) == (1, renewed)

    play(scenario, lease(1, 1, seconds=SHORT), renewed)


def test_a_renewal_that_finds_the_lease_gone_starts_over() -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        await until(lambda: membership.lease == OWN)
        assert len(host.taken_up) == 1

    play(scenario, lease(1, 1, seconds=SHORT), LeaseLostError("it is gone"), OWN)


def test_a_lease_that_the_nodes_own_config_does_not_allow_is_not_taken_up() -> None:
    elsewhere = replace(OWN, subnets=Subnets(IPv4Network("10.6.1.0/24")))

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        raise AssertionError("it joined")

    with pytest.raises(LeaseError, match=r"its subnet 10.6.1.0/24 is not in the network config's 10.5.0.0/16; correct"):
        play(scenario, elsewhere)
    pod = replace(OWN, attrs=LeaseAttrs(public_ip=IPv4Address("10.5.7.7")))
    with pytest.raises(LeaseError, match=r"its public address 10.5.7.7 lies in the pod network 10.5.0.0/16; correct"):
        play(scenario, pod)


def test_a_node_that_publishes_another_address_judges_the_others_by_it(caplog: pytest.LogCaptureFixture) -> None:
    moved = replace(lease(1, 1, seconds=25 * HOUR), attrs=OTHER.attrs)

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER)))
        await until(lambda: host.peers)
        store.updates.put_nowait(LeaseEvent(Change.REMOVED, OWN))
        await until(lambda: membership.lease == moved)
        assert host.peers == {}
        assert len(host.taken_up) == 1

    play(scenario, OWN, moved)
    assert "ignoring the lease 10.5.2.0/24 of node 192.168.0.2: it names this node's own public address" in caplog.text


def test_many_refused_leases_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    outside = [replace(OTHER, subnets=Subnets(IPv4Network(f"10.6.{number}.0/24"))) for number in range(100)]

    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        store.updates.put_nowait(Snapshot((OWN, OTHER, *outside)))
        await until(lambda: host.peers)
        store.updates.put_nowait(Snapshot((OWN, OTHER, THIRD, *outside)))
        await until(lambda: len(host.peers) == 2)
        assert membership.table is not None
        assert len(membership.table.refused) == 100

    play(scenario, OWN)
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 21
    assert said[0].startswith("ignoring the lease 10.6.0.0/24 of node 192.168.0.2: its subnet 10.6.0.0/24 is not in")
    assert said[20] == "and 80 leases more; `udplane peers` says why"


def test_a_store_out_of_reach_is_asked_again_for_the_first_lease() -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        assert membership.lease == OWN

    play(scenario, StoreError("it is down", transient=True), OWN)


@pytest.mark.parametrize("error", [LeaseError("used up"), StoreError("not a store", transient=False)])
def test_what_waiting_does_not_mend_ends_the_join(error: UdplaneError) -> None:
    async def scenario(membership: Membership, store: PlayedStore, host: PlayedHost) -> None:
        raise AssertionError("it joined")

    with pytest.raises(type(error), match=str(error)):
        play(scenario, error)
