"""The udp backend on a host: what only several workers show."""

import pytest

from dataplane.addresses import Network
from dataplane.lab.topology import Node
from dataplane.packets.routes import RouteSnapshot
from tests.backends.conftest import PEER_SUBNETS, added, make_backend, set_up

PEER = '{"PublicIP":"192.168.0.202","BackendType":"udp"}'


def test_the_engine_that_workers_share_is_told_of_routes_once(
    node: Node, tun_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables of thousands of peers are not built once for each worker."""
    native = pytest.importorskip("dataplane.engines.native")
    told: list[set[Network]] = []
    set_routes = native.NativeEngine.set_routes

    def note(self: object, snapshot: RouteSnapshot) -> None:
        told.append({subnet for peer in snapshot.peers.values() for subnet in peer.subnets})
        set_routes(self, snapshot)

    monkeypatch.setattr(native.NativeEngine, "set_routes", note)
    backend = make_backend({"Type": "udp"}, workers=3)
    try:
        set_up(backend)
        told.clear()
        backend.apply([added(PEER)])
        assert told == [set(PEER_SUBNETS)]
    finally:
        backend.stop()
