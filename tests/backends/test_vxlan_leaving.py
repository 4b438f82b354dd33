"""Departure of a node with vxlan, and its change to another backend."""

from tests.backends.conftest import Start, leave, restart, routes, shown, write_config
from tests.backends.test_vxlan import CONFIG, macs
from tests.waiting import wait_until


def test_leaving_takes_devices_and_the_peers_ways_away_and_another_backend_clears_up(start: Start) -> None:
    """First node 1 leaves; then the whole network changes to host-gw, where node 2 ran with vxlan until now."""
    overlay = start(CONFIG)
    first, second = overlay.daemons
    said = leave(first)
    for words in ("removed flannel.1", "removed flannel-v6.1", "gave back the lease"):
        assert words in said
    assert (macs(first.node), routes(first.node.netns)) == ({}, {})
    wait_until(lambda: not routes(second.node.netns), "the peer has no route any more")
    assert shown(second.node.netns, "ip", "neigh", "show", "dev", "flannel.1") == []
    second.stop()
    write_config(overlay, {"Type": "host-gw"})
    config = str(overlay.directory / "net-conf.json")
    second.node.netns.run([*second.command("config")[:1], "config", "set", config, "--store", overlay.store])
    second = restart(overlay, 1)
    assert macs(second.node) == {}
    assert second.status()["backend"]["type"] == "host-gw"
