"""The Kubernetes store against a stand-in for the API server, and against a real one where there is one."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from dataplane.errors import ConfigError, LeaseError, LeaseLostError, NoNetworkConfigError, StoreError, UsageError
from dataplane.leases.lease import Change, LeaseAttrs, LeaseEvent
from dataplane.stores.base import AcquireRequest, Outage, Snapshot, StoreOptions
from dataplane.stores.http import Endpoint
from dataplane.stores.kube_api import KubeApi
from dataplane.stores.kubeconfig import ApiServer, read_token
from dataplane.stores.kubernetes import KubernetesStore
from dataplane.stores.registry import open_store
from tests.stores.helpers import list_once, request, run, watching
from tests.stores.kube_server import KubeServer, kube_server

PREFIX = "flannel.alpha.coreos.com/"
CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}'
DUAL_CONFIG = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}'

# What flannel's udp backend writes for a node with public IP 192.168.0.`host` (flannel pkg/subnet/kube/kube.go).
FLANNEL_UDP = {"kube-subnet-manager": "true", "backend-type": "", "backend-data": "null"}


def published(host: int, **more: str) -> dict[str, str]:
    """The annotations of a node; in the names of `more`, `_` stands for `-`."""
    named = FLANNEL_UDP | {"public-ip": f"192.168.0.{host}"}
    named |= {key.replace("_", "-"): text for key, text in more.items()}
    return {PREFIX + name: text for name, text in named.items()}


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server() as server:
        yield server
        assert server.violations == []


@pytest.fixture
def options(tmp_path: Path) -> StoreOptions:
    path = tmp_path / "net-conf.json"
    path.write_text(CONFIG)
    (tmp_path / "token").write_text("first\n")
    return StoreOptions(net_config_path=str(path))


def store_for(server: KubeServer, options: StoreOptions, **environ: str) -> KubernetesStore:
    """A store that reads its token from beside the network config."""
    token = Path(options.net_config_path).with_name("token")
    endpoint = Endpoint("127.0.0.1", int(server.url.rpartition(":")[2]))
    return KubernetesStore(KubeApi(ApiServer(endpoint, lambda: read_token(token))), options, environ)


def test_what_is_patched_is_what_flannel_patches(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"], {"other": "stays"})
        store = store_for(server, options, NODE_NAME="alpha")
        lease = await store.acquire(request(1))
        assert (lease.key, lease.node, lease.expires) == ("10.5.1.0-24", "alpha", None)
        assert server.patches == [("alpha", {"metadata": {"annotations": published(1)}})]
        assert server.nodes["alpha"]["metadata"]["annotations"] == {"other": "stays"} | published(1)
        await store.acquire(request(1))
        assert await store.renew(lease) == lease
        assert len(server.patches) == 1
        moved = await store.renew(lease, replace(lease.attrs, public_ip=IPv4Address("192.168.0.9")))
        assert server.patches[1:] == [("alpha", {"metadata": {"annotations": {PREFIX + "public-ip": "192.168.0.9"}}})]
        await store.release(moved)
        assert server.nodes["alpha"]["metadata"]["annotations"] == {"other": "stays"}
        await store.close()

    run(story())


def test_the_condition_is_cleared_when_the_node_is_ready(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"])
        store = store_for(server, options, NODE_NAME="alpha")
        await store.ready(await store.acquire(request(1)))
        (condition,) = server.patches[-1][1]["status"]["conditions"]
        assert condition["lastHeartbeatTime"] == condition["lastTransitionTime"]
        assert {key: text for key, text in condition.items() if "Time" not in key} == {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
        }
        silent = store_for(server, replace(options, set_node_network_unavailable=False), NODE_NAME="alpha")
        await silent.ready(await silent.acquire(request(1)))
        assert len(server.patches) == 2
        for one in (store, silent):
            await one.close()

    run(story())


def test_both_families_and_a_backends_data(server: KubeServer, options: StoreOptions) -> None:
    Path(options.net_config_path).write_text(DUAL_CONFIG)
    attrs = LeaseAttrs(IPv4Address("192.168.0.1"), IPv6Address("fd01::1"), "vxlan", '{"VNI":1}', '{"VNI":2}')

    async def story() -> None:
        server.put_node("alpha", ["fd00:5:0:1::/64", "10.5.1.0/24"])
        store = store_for(server, options, NODE_NAME="alpha")
        lease = await store.acquire(AcquireRequest(attrs))
        assert lease.key == "10.5.1.0-24&fd00:5:0:1::-64"
        assert server.nodes["alpha"]["metadata"]["annotations"] == published(
            1,
            backend_type="vxlan",
            backend_data='{"VNI":1}',
            backend_v6_data='{"VNI":2}',
            public_ipv6="fd01::1",
        )
        assert await store.leases() == [lease]
        await store.close()

    run(story())


@pytest.mark.parametrize(
    ("annotations", "address"),
    [
        ({"public-ip-overwrite": "203.0.113.7"}, "203.0.113.7"),
        ({"node-public-ip": "203.0.113.8"}, "203.0.113.8"),
        ({"node-public-ip": "203.0.113.8", "public-ip-overwrite": "203.0.113.7"}, "203.0.113.7"),
        ({}, "192.168.0.1"),
    ],
)
def test_an_operator_can_impose_a_public_address(
    server: KubeServer, options: StoreOptions, annotations: dict[str, str], address: str
) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"], {PREFIX + key: text for key, text in annotations.items()})
        store = store_for(server, options, NODE_NAME="alpha")
        lease = await store.acquire(request(1))
        assert str(lease.attrs.public_ip) == address
        assert server.nodes["alpha"]["metadata"]["annotations"][PREFIX + "public-ip"] == address
        await store.close()

    run(story())


def test_the_node_is_found_through_its_pod(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"])
        server.pods["kube-flannel", "udplane-x"] = {"spec": {"nodeName": "alpha"}}
        server.pods["kube-flannel", "udplane-y"] = {"spec": {}}
        found = store_for(server, options, POD_NAME="udplane-x", POD_NAMESPACE="kube-flannel")
        assert (await found.acquire(request(1))).node == "alpha"
        early = store_for(server, options, POD_NAME="udplane-y", POD_NAMESPACE="kube-flannel")
        with pytest.raises(StoreError, match="is not on a node yet") as caught:
            await early.acquire(request(1))
        assert caught.value.transient
        unknown = store_for(server, options)
        with pytest.raises(ConfigError, match="give --node-name"):
            await unknown.acquire(request(1))
        for one in (found, early, unknown):
            await one.close()

    run(story())


def test_a_pod_that_may_not_be_read_can_be_done_without(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        store = store_for(server, options, POD_NAME="udplane-x", POD_NAMESPACE="kube-flannel")
        server.failures = [403]
        with pytest.raises(StoreError, match=r"denies access: .*; or set NODE_NAME from the pod's spec.nodeName"):
            await store.acquire(request(1))
        await store.close()

    run(story())


def test_older_nodes_come_first(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        for number, made in ((1, "2026-05-01T10:00:02Z"), (2, "2026-05-01T10:00:01Z"), (3, "nonsense")):
            server.put_node(f"n{number}", [f"10.5.{number}.0/24"], published(number))
            server.nodes[f"n{number}"]["metadata"]["creationTimestamp"] = made
        store = store_for(server, options)
        by_age = sorted(await store.leases(), key=lambda lease: lease.since)
        assert [lease.node for lease in by_age] == ["n3", "n2", "n1"]
        await store.close()

    run(story())


@pytest.mark.parametrize(
    ("pod_cidrs", "complaint"),
    [
        ([], "no podCIDR is assigned to it; run the controller manager with --allocate-node-cidrs=true"),
        (["10.6.1.0/24"], "not in the network config's Network"),
        (["10.5.1.0/24", "10.5.2.0/24"], "not one of each enabled family"),
        (["fd00:5::/64"], "not one of each enabled family"),
        (["nonsense"], "not one of each enabled family"),
    ],
)
def test_a_node_without_a_fitting_pod_cidr_gets_no_lease(
    server: KubeServer, options: StoreOptions, pod_cidrs: list[str], complaint: str
) -> None:
    async def story() -> None:
        server.put_node("alpha", pod_cidrs)
        store = store_for(server, options, NODE_NAME="alpha")
        with pytest.raises(LeaseError, match=f"node alpha can have no lease: .*{complaint}"):
            await store.acquire(request(1))
        await store.close()

    run(story())


def test_a_node_whose_pod_cidr_changed_has_lost_its_lease(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"])
        store = store_for(server, options, NODE_NAME="alpha")
        lease = await store.acquire(request(1))
        server.put_node("alpha", ["10.5.9.0/24"])
        with pytest.raises(LeaseLostError, match=r"has the podCIDR 10.5.9.0/24 now"):
            await store.renew(lease)
        await store.close()

    run(story())


def test_nodes_that_published_nothing_or_nonsense_are_no_peers(
    server: KubeServer, options: StoreOptions, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataplane.stores.kube_api.PAGE_LIMIT", 2)
    server.put_node("fine", ["10.5.1.0/24"], published(1))
    server.put_node("silent", ["10.5.2.0/24"], {"unrelated": "annotation"})
    server.put_node("other", ["10.5.3.0/24"], published(3) | {PREFIX + "kube-subnet-manager": "false"})
    server.put_node("addressless", ["10.5.4.0/24"], published(4) | {PREFIX + "public-ip": ""})
    server.put_node("wrong", ["10.5.5.0/24"], published(5) | {PREFIX + "public-ip": "nowhere"})
    server.put_node("podless", [], published(6))
    server.put_node("last", ["10.5.7.0/24"], published(7))
    leases = asyncio.run(list_once(store_for(server, options)))
    assert [lease.node for lease in leases] == ["fine", "last"]
    for name in ("addressless", "wrong", "podless"):
        assert f"ignoring node {name}: " in caplog.text
    assert sum("continue=" in line for line in server.requests) == 3


def test_the_watch_reports_what_matters_and_nothing_else(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"], published(1))
        store = store_for(server, options)
        async with watching(store) as seen:
            snapshot = await seen(lambda _: True)
            assert isinstance(snapshot, Snapshot)
            (alpha,) = snapshot.leases
            server.put_node("alpha", ["10.5.1.0/24"], published(1) | {"heartbeat": "1"})
            server.put_node("beta", ["10.5.2.0/24"])
            server.put_node("beta", ["10.5.2.0/24"], published(2))
            added = await seen(lambda _: True)
            assert isinstance(added, LeaseEvent)
            assert (added.change, added.lease.node) == (Change.ADDED, "beta")
            server.put_node("beta", ["10.5.2.0/24"], published(22))
            moved = await seen(lambda _: True)
            assert isinstance(moved, LeaseEvent)
            assert moved.lease.attrs.public_ip == IPv4Address("192.168.0.22")
            server.put_node("beta", ["10.5.2.0/24"])
            assert await seen(lambda _: True) == LeaseEvent(Change.REMOVED, moved.lease)
            server.delete_node("alpha")
            assert await seen(lambda _: True) == LeaseEvent(Change.REMOVED, alpha)
        await store.close()

    run(story())


def test_a_watch_that_is_too_old_lists_anew(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        store = store_for(server, options)
        async with watching(store) as seen:
            await seen(lambda it: it == Snapshot(()))
            server.put_node("alpha", ["10.5.1.0/24"], published(1))
            await seen(lambda it: isinstance(it, LeaseEvent))
            server.forget_history()
            again = await seen(lambda it: isinstance(it, Snapshot))
            assert isinstance(again, Snapshot)
            assert [lease.node for lease in again.leases] == ["alpha"]
        await store.close()

    run(story())


def test_a_server_that_restarts_is_an_outage_after_which_the_watch_goes_on(
    server: KubeServer, options: StoreOptions
) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"], published(1))
        store = store_for(server, options)
        async with watching(store) as seen:
            first = await seen(lambda _: True)
            server.drop_watches()
            outage = await seen(lambda it: isinstance(it, Outage))
            assert isinstance(outage, Outage)
            server.put_node("beta", ["10.5.2.0/24"], published(2))
            server.come_back()
            assert await seen(lambda it: isinstance(it, Snapshot)) == first
            added = await seen(lambda _: True)
            assert isinstance(added, LeaseEvent)
            assert added.lease.node == "beta"
            assert sum("limit=" in line for line in server.requests) == 1
        await store.close()

    run(story())


def test_a_token_is_read_anew_when_it_rotates(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"], published(1))
        store = store_for(server, options)
        assert len(await store.leases()) == 1
        server.tokens = {"second"}
        with pytest.raises(
            StoreError, match="does not accept this node's credentials: Unauthorized; check token"
        ) as caught:
            await store.leases()
        assert not caught.value.transient
        Path(options.net_config_path).with_name("token").write_text("second")
        assert len(await store.leases()) == 1
        await store.close()

    run(story())


@pytest.mark.parametrize(
    ("status", "transient", "complaint"),
    [
        (403, False, "apply udplane's ClusterRole"),
        (404, False, "check NODE_NAME"),
        (409, True, "made to fail with 409"),
        (429, True, "made to fail with 429"),
        (500, True, "made to fail with 500"),
        (503, True, "made to fail with 503"),
        (422, False, "made to fail with 422"),
    ],
)
def test_what_the_server_refuses_is_said(
    server: KubeServer, options: StoreOptions, status: int, transient: bool, complaint: str
) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"])
        store = store_for(server, options, NODE_NAME="alpha")
        server.failures = [status]
        with pytest.raises(StoreError, match=complaint) as caught:
            await store.acquire(request(1))
        assert caught.value.transient == transient
        await store.acquire(request(1))
        await store.close()

    run(story())


def test_the_network_config_is_a_file(server: KubeServer, options: StoreOptions) -> None:
    async def story() -> None:
        store = store_for(server, options)
        assert await store.network_config() == CONFIG
        assert not await store.set_network_config(CONFIG, only_if_absent=True)
        with pytest.raises(StoreError, match="change its ConfigMap"):
            await store.set_network_config(CONFIG)
        Path(options.net_config_path).unlink()
        with pytest.raises(NoNetworkConfigError, match="give --net-config-path"):
            await store.network_config()

    run(story())


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ("flannel.alpha.coreos.com", "flannel.alpha.coreos.com/"),
        ("example.com/", "example.com/"),
        ("example.com/net", "example.com/net-"),
        ("example.com/net-", "example.com/net-"),
    ],
)
def test_the_annotation_prefix_follows_flannels_rule(
    server: KubeServer, options: StoreOptions, given: str, complete: str
) -> None:
    async def story() -> None:
        server.put_node("alpha", ["10.5.1.0/24"])
        store = store_for(server, replace(options, kube_annotation_prefix=given), NODE_NAME="alpha")
        await store.acquire(request(1))
        assert server.nodes["alpha"]["metadata"]["annotations"][f"{complete}public-ip"] == "192.168.0.1"
        await store.close()

    run(story())
    for wrong in ("a/b/c", "nodots", "Example.com", ""):
        with pytest.raises(ConfigError, match="--kube-annotation-prefix"):
            store_for(server, replace(options, kube_annotation_prefix=wrong))


def test_a_server_without_credentials_is_named_by_url(server: KubeServer, options: StoreOptions) -> None:
    with pytest.raises(StoreError, match="does not accept this node's credentials"):
        asyncio.run(list_once(open_store(f"kube:{server.url}", options)))
    for wrong in ("kube:ftp://host", "kube:http://", "kube:http://host:99999", "kube:host"):
        with pytest.raises(UsageError, match="is no address of an API server"):
            open_store(wrong, options)


def test_against_a_real_api_server(tmp_path: Path) -> None:
    kubeconfig = os.environ.get("UDPLANE_TEST_KUBECONFIG", "")
    if not kubeconfig:
        pytest.skip("needs a Kubernetes cluster: set UDPLANE_TEST_KUBECONFIG to its kubeconfig file")
    path = tmp_path / "net-conf.json"
    path.write_text(json.dumps({"Network": os.environ.get("UDPLANE_TEST_POD_NETWORK", "10.244.0.0/16")}))

    async def story() -> None:
        store = open_store("kube:", StoreOptions(kubeconfig_file=kubeconfig, net_config_path=str(path)))
        async with watching(store) as seen:
            snapshot = await seen(lambda it: isinstance(it, Snapshot))
            assert isinstance(snapshot, Snapshot)
            assert list(snapshot.leases) == await store.leases()
        await store.close()

    run(story())
