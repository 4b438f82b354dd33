"""What somebody does who can write to the store, with each store as it is on disk or on the wire.

The writer puts leases of his own beside those of honest nodes, before or after them. The node must use the honest ones
and none of his, say so once and show it, and come to the same when it is started again.
"""

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import pytest

from dataplane.lab.overlay import Overlay, last_line
from dataplane.lab.topology import Lab
from dataplane.leases.gate import LeaseGate
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.leases.table import LeaseTable
from dataplane.node.membership import Membership
from dataplane.stores.base import AcquireRequest, Store, StoreOptions
from dataplane.stores.http import Endpoint
from dataplane.stores.kube_api import KubeApi
from dataplane.stores.kubeconfig import ApiServer
from dataplane.stores.kubernetes import KubernetesStore
from dataplane.stores.registry import open_store
from tests.stores.etcd_server import EtcdMember, etcd_cluster
from tests.stores.kube_server import KubeServer, kube_server
from tests.waiting import wait_until

CONFIG = '{"Network": "10.5.0.0/16"}'
DUAL_CONFIG = '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}'
OWN, HONEST = "10.5.1.0-24", "10.5.2.0-24"
OWN_ADDRESS, HONEST_ADDRESS, WRITER = "192.168.0.1", "192.168.0.2", "192.168.0.66"
PREFIX = "flannel.alpha.coreos.com/"

# What is written: the key of a lease and a public address; and what the node says about it.
OUTSIDE = "is not in the network config's 10.5.0.0/16"
ATTACKS = {
    "a lease of addresses of the internet": ("8.8.8.0-24", WRITER, OUTSIDE),
    "a lease of half of all addresses": ("128.0.0.0-1", WRITER, OUTSIDE),
    "a lease of more than the network": ("10.4.0.0-15", WRITER, OUTSIDE),
    "IPv4 written as IPv6": ("10.5.9.0-24&::ffff:a05:200-120", WRITER, "(IPv4 written as IPv6)"),
    "loopback as public address": ("10.5.9.0-24", "127.0.0.1", "(loopback)"),
    "multicast as public address": ("10.5.9.0-24", "224.0.0.1", "(multicast)"),
    "broadcast as public address": ("10.5.9.0-24", "255.255.255.255", "(broadcast)"),
    "a pod as public address": ("10.5.9.0-24", "10.5.2.7", "lies in the pod network 10.5.0.0/16"),
    "the node itself as public address": ("10.5.9.0-24", OWN_ADDRESS, "this node's own public address"),
    "IPv4 written as IPv6 as public address": ("10.5.9.0-24", "::ffff:192.168.0.2", "(IPv4 written as IPv6)"),
    "a lease around all others": ("10.5.0.0-16", WRITER, "is no /24"),
    "a lease inside the honest one": ("10.5.2.128-25", WRITER, "is no /24"),
}


def value(address: str) -> str:
    """A lease's value with this public address, as a writer types it."""
    key = "PublicIPv6" if ":" in address else "PublicIP"
    return json.dumps({key: address})


class Written(Protocol):
    """A store into which anybody writes."""

    store: Store
    other_words: Mapping[str, str]
    """For some attacks, what the node says of them with this store."""

    def write(self, key: str, address: str) -> None: ...

    def delete(self, key: str) -> None: ...


class WrittenSqlite:
    """The rows of the embedded store."""

    other_words: Mapping[str, str] = {}

    def __init__(self, directory: Path) -> None:
        self.path = directory / "store.db"
        self.store = open_store(f"sqlite:{self.path}")
        asyncio.run(self.store.set_network_config(CONFIG))

    def write(self, key: str, address: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            row = (key, value(address), time.time() + 1000)
            database.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", row)
            database.commit()

    def delete(self, key: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.execute("DELETE FROM leases WHERE key = ?", (key,))
            database.commit()


class WrittenEtcd:
    """The keys of an etcd."""

    other_words: Mapping[str, str] = {}

    def __init__(self, member: EtcdMember, prefix: str) -> None:
        self._member, self._prefix = member, prefix
        self.store = open_store(f"etcd://127.0.0.1:{member.client_port}", StoreOptions(etcd_prefix=prefix))
        member.put(f"{prefix}/config", CONFIG)

    def write(self, key: str, address: str) -> None:
        self._member.put(f"{self._prefix}/subnets/{key}", value(address))

    def delete(self, key: str) -> None:
        self._member.delete(f"{self._prefix}/subnets/{key}")


class WrittenKubernetes:
    """The nodes of a cluster."""

    other_words: Mapping[str, str] = {
        "a lease around all others": "it overlaps",
        "a lease inside the honest one": "it overlaps",
        "IPv4 written as IPv6": "is not in the network config's fd00:5::/48",
    }
    """Where subnets may be of any length, those that were there first are used."""

    def __init__(self, server: KubeServer, directory: Path) -> None:
        self._server = server
        (directory / "net-conf.json").write_text(DUAL_CONFIG)
        options = StoreOptions(net_config_path=str(directory / "net-conf.json"))
        api = KubeApi(ApiServer(Endpoint("127.0.0.1", int(server.url.rpartition(":")[2])), lambda: "first"))
        self.store: Store = KubernetesStore(api, options, {"NODE_NAME": _node_name(OWN)})
        server.put_node(_node_name(OWN), ["10.5.1.0/24", "fd00:5:0:1::/64"])

    def write(self, key: str, address: str) -> None:
        name = "public-ipv6" if ":" in address else "public-ip"
        annotations = {PREFIX + "kube-subnet-manager": "true", PREFIX + name: address}
        self._server.put_node(_node_name(key), [str(subnet) for subnet in Subnets.from_key(key)], annotations)

    def delete(self, key: str) -> None:
        self._server.delete_node(_node_name(key))


def _node_name(key: str) -> str:
    return f"n{key.translate(str.maketrans('.:&', '---'))}"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1) as (member,):
        yield member


@pytest.fixture(params=["sqlite", "etcd", "kube"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Written]:
    if request.param == "sqlite":
        yield WrittenSqlite(tmp_path)
    elif request.param == "etcd":
        yield WrittenEtcd(request.getfixturevalue("etcd"), f"/{tmp_path.name}/network")
    else:
        with kube_server() as server:
            yield WrittenKubernetes(server, tmp_path)


class PlayedHost:
    """Keeps the peers that it is told to use, and every one that it ever was told to."""

    def __init__(self) -> None:
        self.peers: dict[str, Lease] = {}
        self.used: set[str] = set()

    async def take_up(self, lease: Lease) -> None: ...

    def remember(self, lease: Lease) -> None: ...

    async def apply(self, changes: list[LeaseEvent]) -> None:
        for event in changes:
            if event.change is Change.REMOVED:
                del self.peers[event.lease.key]
            elif event.change is not Change.REFUSED:
                self.peers[event.lease.key] = event.lease
                self.used.add(event.lease.key)


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - no event tells of it: the state is the code's under test
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


def test_no_lease_of_the_writers_is_used_when_it_comes_and_none_after_a_restart(
    written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    attrs = LeaseAttrs(public_ip=IPv4Address(OWN_ADDRESS))

    def words(attack: str) -> str:
        return written.other_words.get(attack, ATTACKS[attack][2])

    async def story() -> None:
        gate = LeaseGate(
            NetworkConfig.parse(await written.store.network_config()), any_length=not written.store.cuts_by_config
        )
        request = AcquireRequest(attrs, Subnets.from_key(OWN))
        host = PlayedHost()
        membership = Membership(written.store, host, gate, lambda _last: request, 3600.0)
        written.write(HONEST, HONEST_ADDRESS)
        await membership.join()
        assert membership.lease is not None
        following = asyncio.create_task(membership.follow_peers())
        try:
            await until(lambda: host.peers, "the honest peer")
            table = membership.table
            assert table is not None
            for attack, (key, address, _) in ATTACKS.items():
                written.write(key, address)
                await until(lambda key=key: key in table.refused, f"{attack} to be refused")  # type: ignore[misc]
                assert words(attack) in table.refused[key].reason
                assert host.peers.keys() == host.used == {HONEST}
                fresh = LeaseTable(membership.lease, gate)
                fresh.replace(await written.store.leases())
                fresh.settle()
                assert (list(fresh.peers), fresh.refused) == ([HONEST], table.refused)
                written.delete(key)
                await until(lambda key=key: key not in table.refused, f"{attack} to be forgotten")  # type: ignore[misc]
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await written.store.close()

    asyncio.run(story())
    for attack in ATTACKS:
        assert len([record for record in caplog.records if words(attack) in record.message]) >= 1
    refused = [record for record in caplog.records if record.message.startswith("ignoring the lease")]
    assert len(refused) == len(ATTACKS)


@pytest.mark.parametrize("written", ["sqlite", "etcd"], indirect=True)
@pytest.mark.parametrize("key", ["0.0.0.0-1", "10.0.0.0-8", "10.5.9.0-24&fd00::-8"])
def test_a_lease_that_nobody_believes_does_not_use_up_the_network(written: Written, key: str) -> None:
    async def story() -> None:
        written.write(key, WRITER)
        lease = await written.store.acquire(AcquireRequest(LeaseAttrs(public_ip=IPv4Address(OWN_ADDRESS))))
        assert lease.key != "10.5.9.0-24" or not key.startswith("10.5.9.0-24")
        await written.store.close()

    asyncio.run(story())


@pytest.fixture
def overlay(namespaces: None, tmp_path: Path) -> Iterator[Overlay]:
    with Lab() as lab, Overlay(lab, tmp_path, engine="python") as overlay:
        lab.add_node()
        yield overlay


def write_into(overlay: Overlay, *statements: tuple[str, tuple[object, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(overlay.store.removeprefix("sqlite:"))) as database:
        for statement, values in statements:
            database.execute(statement, values)
        database.commit()


def set_config(overlay: Overlay, config: str) -> None:
    """Write the config past all checks of ours."""
    asyncio.run(open_store(overlay.store).set_network_config(CONFIG))
    write_into(overlay, ("UPDATE config SET text = ?", (config,)))


def test_no_route_of_the_kernel_is_the_writers_and_the_operator_sees_why(overlay: Overlay) -> None:
    (node,) = overlay.lab.nodes
    set_config(overlay, '{"Network": "10.5.0.0/16", "Backend": {"Type": "host-gw"}}')
    honest, writer = (str(node.address(4) + number) for number in (10, 11))
    data = [("128.0.0.0-1", writer), ("8.8.8.0-24", writer), (HONEST, honest), ("10.5.3.0-24", "127.0.0.1")]
    row = '{"PublicIP": "%s", "BackendType": "host-gw"}'
    garbage = [("10.5.4.0-24", "not json"), ("\x1b[2J\nnonsense", "{}"), ("10.5.5.0-024", value(writer))]
    for key, text in garbage:
        write_into(overlay, ("INSERT INTO leases VALUES (?, ?, NULL)", (key, text)))
    for key, address in data:
        write_into(overlay, ("INSERT INTO leases VALUES (?, ?, ?)", (key, row % address, time.time() + 1000)))
    for _ in range(2):
        daemon = overlay.start(node)
        daemon.wait_until_ready()
        daemon.wait_for_peers(1)
        routes = node.netns.run(["ip", "-4", "route"]).stdout
        assert f"10.5.2.0/24 via {honest}" in routes
        assert not any(text in routes for text in (writer, "128.0.0.0", "8.8.8.0", "127.0.0.1", "10.5.3.0"))
        refused = {tuple(entry["subnets"]): entry["trouble"] for entry in daemon.status()["refused"]}
        assert refused.keys() == {("128.0.0.0/1",), ("8.8.8.0/24",), ("10.5.3.0/24",)}
        assert "(loopback)" in refused["10.5.3.0/24",]
        ignored = daemon.status()["store"]["ignored"]
        assert ignored.keys() == {f"the lease {key!r} in the store" for key, _ in garbage}
        assert "has to be written 10.5.5.0-24" in ignored["the lease '10.5.5.0-024' in the store"]
        for verb in ("peers", "status"):
            shown = node.netns.run(daemon.command(verb)).stdout
            assert "\x1b" not in shown
            assert f"refused: 128.0.0.0/1 of {writer}: its subnet 128.0.0.0/1 {OUTSIDE}" in shown
        daemon.stop()
        log = daemon.log.read_text()
        daemon.log.write_text("")
        assert log.count("ignoring the lease 128.0.0.0/1") == log.count("ignoring the lease '10.5.4.0-24'") == 1
        assert "\x1b" not in log


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("128.0.0.0/1", "overlaps 224.0.0.0/4 (multicast), which pods cannot have"),
        ("0.0.0.0/0", "which pods cannot have"),
        ("127.0.0.0/16", "overlaps 127.0.0.0/8 (loopback)"),
        ("192.168.0.0/16", "holds this node's own address 192.168.0.201"),
    ],
)
def test_a_network_that_takes_the_hosts_own_traffic_ends_the_node_in_one_line(
    overlay: Overlay, network: str, words: str
) -> None:
    (node,) = overlay.lab.nodes
    set_config(overlay, json.dumps({"Network": network}))
    daemon = overlay.start(node)
    wait_until(lambda: daemon.process.poll() is not None, "the node ends")
    assert daemon.process.returncode == 1
    assert words in last_line(daemon.log)
    assert "Traceback" not in daemon.log.read_text()
    assert "udplane0" not in node.netns.run(["ip", "link"]).stdout
