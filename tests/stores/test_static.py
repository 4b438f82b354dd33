"""Peers listed by hand: what the file may say, what it may not, and edits while nodes run."""

import asyncio
import contextlib
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError, LeaseError, LeaseLostError, StoreError, UsageError
from dataplane.leases.lease import LeaseAttrs
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import AcquireRequest, Outage, Snapshot
from dataplane.stores.registry import open_store
from dataplane.stores.static import PeerFile, StaticStore
from tests.stores.helpers import request, run, until

TWO_PEERS = """
[network]
Network = "10.5.0.0/16"
Backend = { Type = "udp", Port = 8285 }

[[peer]]
node = "alpha"
public-ip = "192.168.0.1"
subnets = ["10.5.1.0/24"]

[[peer]]
node = "beta"
public-ip = "192.168.0.2"
subnets = ["10.5.2.0/24"]
"""

DUAL = """
[network]
Network = "10.5.0.0/16"
EnableIPv6 = true
IPv6Network = "fd00:5::/48"

[[peer]]
public-ip = "192.168.0.1"
public-ipv6 = "fd01::1"
subnets = ["fd00:5:0:1::/64", "10.5.1.0/24"]
backend-type = "vxlan"
backend-data = { VNI = 1, VtepMAC = "72:c6:82:b6:09:29" }
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "peers.toml"
    path.write_text(TWO_PEERS)
    return path


def test_the_network_config_is_the_network_table(path: Path) -> None:
    async def story() -> None:
        store = open_store(f"static:{path}")
        text = await store.network_config()
        assert text == '{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":8285}}'
        assert NetworkConfig.parse(text).backend.integer("Port", 1, 1, 65535) == 8285
        assert not await store.set_network_config(text, only_if_absent=True)
        with pytest.raises(StoreError, match="edited by hand"):
            await store.set_network_config(text)

    run(story())


def test_a_node_finds_its_entry_by_name_or_by_address(path: Path) -> None:
    async def story() -> None:
        store = StaticStore(path)
        attrs = LeaseAttrs(IPv4Address("192.168.0.2"))
        by_address = await store.acquire(AcquireRequest(attrs, node="some-host-name"))
        assert by_address.key == "10.5.2.0-24"
        by_name = await store.acquire(AcquireRequest(attrs, node="alpha"))
        assert (by_name.key, by_name.attrs) == ("10.5.1.0-24", attrs)
        assert await store.renew(by_name) == by_name
        await store.release(by_name)
        assert [lease.node for lease in await store.leases()] == ["alpha", "beta"]
        with pytest.raises(LeaseError, match=r"lists no \[\[peer\]\] for this node \(gamma 192.168.0.9\)"):
            await store.acquire(replace(request(9), node="gamma"))
        path.write_text(TWO_PEERS.replace("10.5.1.0/24", "10.5.3.0/24"))
        with pytest.raises(LeaseLostError, match=r"lists 10.5.1.0/24 no more"):
            await store.renew(by_name)

    run(story())


def test_both_families_and_a_backends_data(path: Path) -> None:
    path.write_text(DUAL)
    (lease,) = asyncio.run(StaticStore(path).leases())
    assert lease.key == "10.5.1.0-24&fd00:5:0:1::-64"
    assert lease.attrs.to_json() == (
        '{"PublicIP":"192.168.0.1","PublicIPv6":"fd01::1","BackendType":"vxlan",'
        '"BackendData":{"VNI":1,"VtepMAC":"72:c6:82:b6:09:29"}}'
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[network]", "[network", "is not valid TOML"),
        ("[network]", "[networks]", "unknown table 'networks'"),
        ('Network = "10.5.0.0/16"', "", "no Network"),
        ('Network = "10.5.0.0/16"', "Network = 1979-05-27", "a value that JSON does not have"),
        ("10.5.2.0/24", "10.5.1.128/25", "the peers overlap: 10.5.1.0/24 of alpha 192.168.0.1 and 10.5.1.128/25 of b"),
        ("10.5.2.0/24", "10.5.0.0/22", "the peers overlap"),
        ("192.168.0.2", "192.168.0.1", "have one public address"),
        ('public-ip = "192.168.0.2"', "", "peer 'beta' has no public address"),
        ('public-ip = "192.168.0.2"', 'public-ip = "beta.example"', "peer 'beta': public-ip:"),
        ("192.168.0.2", "127.0.0.1", "peer 'beta': public-ip 127.0.0.1 lies in 127.0.0.0/8 (loopback); give the"),
        ('public-ip = "192.168.0.2"', "public-ip = 3", "public-ip must be a text in quotes"),
        ('public-ip = "192.168.0.2"', 'publicip = "192.168.0.2"', "unknown key 'publicip'"),
        ('subnets = ["10.5.2.0/24"]', "", "peer 'beta' has no subnets"),
        ('subnets = ["10.5.2.0/24"]', 'subnets = ["10.5.2.1/24"]', "has host bits set"),
        ('subnets = ["10.5.2.0/24"]', "subnets = [7]", "one of each family"),
        ('subnets = ["10.5.2.0/24"]', 'subnets = ["10.5.2.0/24", "10.5.3.0/24"]', "two IPv4 subnets"),
        ('subnets = ["10.5.2.0/24"]', 'subnets = ["10.6.2.0/24"]', "does not fit"),
        ('subnets = ["10.5.2.0/24"]', 'subnets = ["10.5.2.0/31"]', "does not fit"),
        ('subnets = ["10.5.2.0/24"]', 'subnets = ["fd00::/64"]', "does not fit"),
        ("[[peer]]", "[peer]", "is not valid TOML"),
        (TWO_PEERS, 'peer = 1\nnetwork = { Network = "10.5.0.0/16" }', r"written as [[peer]] tables"),
        (TWO_PEERS, "network = 1", "must be a JSON object"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_peer(path: Path, old: str, new: str, complaint: str) -> None:
    path.write_text(TWO_PEERS.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        asyncio.run(StaticStore(path).acquire(request(1)))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert complaint in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(StoreError, match="cannot read the peer file"):
            asyncio.run(StaticStore(path).leases())
    with pytest.raises(UsageError, match="needs a file"):
        open_store("static:")


@given(st.binary(max_size=100) | st.tuples(st.integers(0, len(TWO_PEERS)), st.binary(max_size=3)))
def test_any_bytes_are_read_or_refused(data: bytes | tuple[int, bytes]) -> None:
    if isinstance(data, tuple):
        position, inserted = data
        text = TWO_PEERS.encode()
        data = text[:position] + inserted + text[position:]
    try:
        PeerFile.parse(data)
    except ConfigError as error:
        assert "\n" not in str(error)


def test_an_edit_is_seen_and_a_broken_one_does_no_harm(path: Path) -> None:
    async def story() -> None:
        store = StaticStore(path)
        async with contextlib.aclosing(store.watch()) as watch:
            before = await anext(watch)
            assert isinstance(before, Snapshot)
            path.write_text(TWO_PEERS + "[[peer]]\n")
            outage = await until(watch, lambda update: isinstance(update, Outage))
            assert isinstance(outage, Outage)
            assert "peer 3 has no public address" in str(outage.error)
            path.write_text(TWO_PEERS)
            assert await until(watch, lambda update: isinstance(update, Snapshot)) == before
            replacement = path.with_name("new")
            replacement.write_text(TWO_PEERS.replace("192.168.0.2", "192.168.0.22"))
            replacement.replace(path)
            after = await until(watch, lambda update: update != before)
            assert isinstance(after, Snapshot)
            assert after.leases[1].attrs.public_ip == IPv4Address("192.168.0.22")
            path.unlink()
            assert isinstance(await anext(watch), Outage)

    run(story())
