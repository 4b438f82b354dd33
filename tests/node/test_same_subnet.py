"""A node that comes back keeps its subnet, or says that it has another.

one node on an underlay, whose address there changes while it is down
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.topology import Lab
from dataplane.leases.lease import LeaseAttrs
from dataplane.stores.registry import open_store


@pytest.fixture
def overlay(lab: Lab, tun_device: None, tmp_path: Path) -> Iterator[Overlay]:
    lab.add_node()
    with Overlay(lab, tmp_path, engine="python") as overlay:
        yield overlay


def restarted(overlay: Overlay) -> tuple[Daemon, str]:
    """The node, started, and what it has said since."""
    (node,) = overlay.lab.nodes
    daemon = overlay.start(node)
    before = daemon.log.stat().st_size
    daemon.wait_until_ready()
    return daemon, daemon.log.read_bytes()[before:].decode()


def move(overlay: Overlay) -> None:
    """Give the node another address on the underlay, as DHCP does."""
    (node,) = overlay.lab.nodes
    node.netns.ip("addr flush dev eth0 scope global", "addr add 192.168.0.77/24 dev eth0")
    node.netns.ip("route add default via 192.168.0.1")
    node.addresses = (type(node.addresses[0])("192.168.0.77/24"), *node.addresses[1:])


def test_another_public_address_gets_the_same_subnet(overlay: Overlay) -> None:
    daemon, _ = restarted(overlay)
    lease = daemon.lease()
    daemon.stop()
    move(overlay)
    daemon, said = restarted(overlay)
    assert daemon.lease() == lease
    assert "start its pods anew" not in said
    (stored,) = asyncio.run(open_store(overlay.store).leases())
    assert stored.attrs.public_ip == IPv4Address("192.168.0.77")


def test_another_subnet_is_said(overlay: Overlay) -> None:
    daemon, _ = restarted(overlay)
    (before, *_), _ = daemon.lease()
    daemon.stop()
    with contextlib.closing(sqlite3.connect(overlay.store.removeprefix("sqlite:"))) as database:
        thief = LeaseAttrs(public_ip=IPv4Address("192.168.0.99")).to_json()
        database.execute("UPDATE leases SET value = ?", (thief,))
        database.commit()
    daemon, said = restarted(overlay)
    (after, *_), _ = daemon.lease()
    assert after != before
    assert f"this node's subnet was {before}" in said
    assert f"and is {after}" in said
    assert "start its pods anew" in said
