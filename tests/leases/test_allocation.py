"""The choice of subnets, checked against a plain scan of the whole pool."""

import itertools
import json
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import LeaseError
from dataplane.leases.allocation import allocate, free_subnets, own_lease
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import AcquireRequest


def config(**keys: object) -> NetworkConfig:
    return NetworkConfig.parse(json.dumps({"Network": "10.5.0.0/24", "SubnetLen": 28, **keys}))


taken_networks = st.lists(
    st.builds(
        lambda address, length: IPv4Network((address, length), strict=False),
        st.integers(int(IPv4Address("10.4.255.0")), int(IPv4Address("10.5.1.255"))),
        st.integers(22, 32),
    ),
    max_size=12,
)


@given(taken_networks)
def test_free_subnets_are_those_of_the_pool_that_overlap_nothing(taken: list[IPv4Network]) -> None:
    pool = config().ipv4
    assert pool is not None
    everything = [subnet for subnet in IPv4Network("10.5.0.0/24").subnets(new_prefix=28) if pool.holds(subnet)]
    expected = [subnet for subnet in everything if not any(subnet.overlaps(other) for other in taken)]
    assert list(free_subnets(pool, taken)) == expected


@given(taken_networks, st.integers())
def test_a_node_gets_free_subnets_or_hears_that_there_are_none(taken: list[IPv4Network], seed: int) -> None:
    setting = config()
    try:
        given_out = allocate(setting, map(Subnets, taken), None, random.Random(seed))
    except LeaseError as error:
        assert "all 15 subnets of 10.5.0.0/24 are taken" in str(error)
        assert setting.ipv4 is not None
        assert not list(free_subnets(setting.ipv4, taken))
        return
    assert setting.accepts(given_out)
    assert not any(given_out.overlaps(Subnets(other)) for other in taken)


def test_the_previous_subnets_come_first_if_they_fit_and_are_free() -> None:
    rng, previous = random.Random(1), Subnets(IPv4Network("10.5.0.224/28"))
    assert allocate(config(), [], previous, rng) == previous
    for taken in ("10.5.0.224/28", "10.5.0.230/32", "10.5.0.192/26"):
        assert allocate(config(), [Subnets(IPv4Network(taken))], previous, rng) != previous
    assert allocate(config(SubnetMax="10.5.0.208"), [], previous, rng) != previous
    assert allocate(config(), [], Subnets(IPv4Network("10.5.0.224/29")), rng).ipv4 != IPv4Network("10.5.0.224/29")
    dual = config(EnableIPv6=True, IPv6Network="fd00:5::/48")
    assert allocate(dual, [], previous, rng).ipv6 is not None


def test_both_families_are_chosen_and_either_can_run_out() -> None:
    dual = config(EnableIPv6=True, IPv6Network="fd00:5::/120", IPv6SubnetLen=124)
    chosen = allocate(dual, [], None, random.Random(1))
    assert dual.accepts(chosen)
    everything = Subnets(IPv4Network("192.168.0.0/24"), IPv6Network("fd00:5::/64"))
    with pytest.raises(LeaseError, match="all 15 subnets of fd00:5::/120 are taken"):
        allocate(dual, [everything], None, random.Random(1))


def test_a_pool_of_any_size_is_searched_at_once() -> None:
    huge = config(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/8")
    assert huge.ipv6 is not None
    assert huge.ipv6.size == 2**56 - 1
    assert huge.accepts(allocate(huge, [Subnets(ipv6=IPv6Network("fd00::/16"))], None, random.Random(1)))


def test_nodes_that_ask_at_once_rarely_choose_the_same() -> None:
    large = config(Network="10.0.0.0/8", SubnetLen=24)
    chosen = {allocate(large, [], None, random.Random(seed)).key for seed in range(100)}
    assert len(chosen) > 40


def test_of_several_own_leases_one_that_the_config_allows_and_the_node_had_is_taken_whatever_their_order() -> None:
    attrs = LeaseAttrs(IPv4Address("192.168.0.1"))
    wide, fits, had = (Lease(Subnets(IPv4Network(f"10.5.0.{net}")), attrs) for net in ("0/26", "80/28", "96/28"))
    for leases in itertools.permutations((wide, fits, had)):
        assert own_lease(leases, config(), had.subnets) is had
    assert own_lease([wide, fits], config(), wide.subnets) is fits
    assert own_lease([wide], config(), None) is wide
    assert own_lease([], config(), None) is None


def test_a_lease_is_the_nodes_by_its_public_address_or_because_nobody_wrote_it_since() -> None:
    mine = Lease(Subnets(IPv4Network("10.5.0.16/28")), LeaseAttrs(IPv4Address("192.168.0.1")), mark="7")
    other = Lease(Subnets(IPv4Network("10.5.0.32/28")), LeaseAttrs(IPv4Address("192.168.0.2")), mark="8")
    moved = LeaseAttrs(IPv4Address("192.168.0.9"))
    assert AcquireRequest(mine.attrs).owns(mine)
    assert not AcquireRequest(moved).owns(mine)
    assert AcquireRequest(moved, held=mine).owns(mine)
    assert not AcquireRequest(moved, held=mine).owns(other)
    assert not AcquireRequest(moved, held=mine).owns(replace(mine, mark="9"))
    assert not AcquireRequest(moved, held=replace(mine, mark="")).owns(replace(mine, mark=""))
