"""A node of a large cluster: 5,000 peers at its start, then a storm of changes, with status asked all the while.

one node on an underlay; its peers are leases in the store that a script wrote, with nobody behind them
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.topology import Lab
from dataplane.leases.lease import LeaseAttrs
from tests.node.conftest import udplane
from tests.waiting import wait_until

N_PEERS, N_CHANGES = 5000, 1000


@pytest.fixture
def crowd(lab: Lab, tun_device: None, tmp_path: Path) -> Iterator[tuple[Daemon, sqlite3.Connection]]:
    """A node that finds N_PEERS leases in its store."""
    with Overlay(lab, tmp_path, engine="python") as overlay:
        node = lab.add_node()
        (tmp_path / "net-conf.json").write_text('{"Network": "10.0.0.0/8"}')
        done = udplane(node.netns, "config", "set", str(tmp_path / "net-conf.json"), "--store", overlay.store)
        assert done.returncode == 0, done.stderr
        with contextlib.closing(sqlite3.connect(overlay.store.removeprefix("sqlite:"))) as database:
            expires = time.time() + 86400
            database.executemany(
                "INSERT INTO leases VALUES (?, ?, ?)",
                [(key(i), value("172.16.0.0", i), expires) for i in range(N_PEERS)],
            )
            database.commit()
            daemon = overlay.start(node)
            daemon.wait_until_ready()
            yield daemon, database


def key(number: int) -> str:
    return f"10.{1 + number // 250}.{number % 250}.0-24"


def value(base: str, number: int) -> str:
    return LeaseAttrs(public_ip=IPv4Address(base) + number + 1).to_json()


def addresses(daemon: Daemon) -> dict[str, str]:
    """The subnet and address of every peer that is in use, as status tells them."""
    return {peer["subnets"][0]: peer["address"] for peer in daemon.status()["peers"] if peer["reachable"]}


def test_a_storm_of_changes_is_followed_to_the_last_one(crowd: tuple[Daemon, sqlite3.Connection]) -> None:
    daemon, database = crowd
    wait_until(lambda: len(addresses(daemon)) == N_PEERS, "all peers are known", 30)
    for start in range(0, N_CHANGES, 20):
        numbers = range(start, start + 20)
        database.executemany(
            "UPDATE leases SET value = ? WHERE key = ?", [(value("172.20.0.0", i), key(i)) for i in numbers]
        )
        database.commit()
        if start % 200 == 0:
            assert len(addresses(daemon)) == N_PEERS
    database.execute("DELETE FROM leases WHERE key = ?", (key(N_PEERS - 1),))
    database.commit()
    expected = {
        key(i).replace("-", "/"): json.loads(value("172.20.0.0" if i < N_CHANGES else "172.16.0.0", i))["PublicIP"]
        for i in range(N_PEERS - 1)
    }
    wait_until(lambda: addresses(daemon) == expected, "all changes are taken in", 30)
