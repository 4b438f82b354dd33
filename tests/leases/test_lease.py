"""Keys and values of leases: flannel's bytes out, everything that flannel writes in."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError
from dataplane.leases.lease import LeaseAttrs, Subnets

IPV4 = IPv4Network("10.5.52.0/24")
IPV6 = IPv6Network("fd00:34::/64")

KEYS = [
    (Subnets(IPV4), "10.5.52.0-24"),
    (Subnets(IPV4, IPV6), "10.5.52.0-24&fd00:34::-64"),
    (Subnets(ipv6=IPV6), "0.0.0.0-0&fd00:34::-64"),
]


@pytest.mark.parametrize(("subnets", "key"), KEYS)
def test_keys_are_flannels(subnets: Subnets, key: str) -> None:
    assert subnets.key == key
    assert Subnets.from_key(key) == subnets


@pytest.mark.parametrize(
    "key",
    [
        "",
        "config",
        "10.5.52.0",
        "10.5.52.0/24",
        "10.5.52.1-24",
        "10.5.52.0-33",
        "10.5.52.0-24&",
        "10.5.52.0-24&fd00:34::-129",
        "10.5.52.0-24&fd00:34::1-64",
        "10.5.52.0-24&fd00:34:0::-64",
        "10.5.52.0-24&fd00:034::-64",
        "10.5.52.0-024",
        "10.5.52-24",
        "0.0.0.0-0",
        "subnets/10.5.52.0-24",
        "10.5.52.0-24\n",
        "１０.5.52.0-24",
    ],
)
def test_other_keys_are_no_leases(key: str) -> None:
    with pytest.raises(ConfigError, match="is not the key of a lease"):
        Subnets.from_key(key)


def test_subnets_need_one_and_no_more_than_one_of_a_family() -> None:
    assert Subnets.of([IPV6, IPV4]) == Subnets(IPV4, IPV6)
    with pytest.raises(ValueError, match="at least one subnet"):
        Subnets.of([])
    with pytest.raises(ValueError, match="two IPv4 subnets"):
        Subnets.of([IPV4, IPv4Network("10.5.53.0/24")])


ADDRESS, ADDRESS6 = IPv4Address("192.168.64.3"), IPv6Address("fd01::3")

# What flannel's backends write: udp; vxlan with both families; vxlan with IPv6 alone.
VALUES = [
    (LeaseAttrs(ADDRESS), '{"PublicIP":"192.168.64.3","PublicIPv6":null}'),
    (
        LeaseAttrs(ADDRESS, ADDRESS6, "vxlan", '{"VNI":1,"VtepMAC":"72:c6:82:b6:09:29"}', '{"VNI":1}'),
        (
            '{"PublicIP":"192.168.64.3","PublicIPv6":"fd01::3","BackendType":"vxlan",'
            '"BackendData":{"VNI":1,"VtepMAC":"72:c6:82:b6:09:29"},"BackendV6Data":{"VNI":1}}'
        ),
    ),
    (
        LeaseAttrs(None, ADDRESS6, "host-gw"),
        '{"PublicIP":"0.0.0.0","PublicIPv6":"fd01::3","BackendType":"host-gw"}',
    ),
]


@pytest.mark.parametrize(("attrs", "value"), VALUES)
def test_values_are_flannels(attrs: LeaseAttrs, value: str) -> None:
    assert attrs.to_json() == value
    assert LeaseAttrs.from_json(value) == attrs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"PublicIP":"192.168.64.3"}', LeaseAttrs(ADDRESS)),
        (' {"publicip": "192.168.64.3", "Later": [1, 2]}\n', LeaseAttrs(ADDRESS)),
        ('{"PublicIP":"192.168.64.3","BackendType":"udp","BackendData":null}', LeaseAttrs(ADDRESS, None, "udp")),
        ('{"PublicIP":"192.168.64.3","BackendData":"text"}', LeaseAttrs(ADDRESS, backend_data='"text"')),
    ],
)
def test_values_of_other_versions_are_read(value: str, expected: LeaseAttrs) -> None:
    assert LeaseAttrs.from_json(value.encode()) == expected


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "names no public IP"),
        ('{"PublicIP":"0.0.0.0","PublicIPv6":"::"}', "names no public IP"),
        ('{"PublicIP":"fd01::3"}', "PublicIP: "),
        ('{"PublicIP":3232252931}', "PublicIP must be a text"),
        ('{"PublicIP":"192.168.64.3","BackendType":7}', "BackendType must be a text"),
    ],
)
def test_other_values_are_refused(value: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        LeaseAttrs.from_json(value)


@given(st.binary(max_size=120) | st.sampled_from([value.encode() for _, value in VALUES]), st.binary(max_size=4))
def test_any_value_is_read_or_refused(value: bytes, tail: bytes) -> None:
    try:
        attrs = LeaseAttrs.from_json(value + tail)
    except ConfigError:
        return
    assert LeaseAttrs.from_json(attrs.to_json()) == attrs


@given(st.text(max_size=40))
def test_any_key_is_read_or_refused(key: str) -> None:
    try:
        subnets = Subnets.from_key(key)
    except ConfigError:
        return
    assert subnets.key == key


def test_a_node_is_known_by_any_of_its_addresses() -> None:
    both = LeaseAttrs(ADDRESS, ADDRESS6)
    assert both.same_node(LeaseAttrs(ADDRESS))
    assert both.same_node(LeaseAttrs(IPv4Address("192.168.64.9"), ADDRESS6))
    assert not LeaseAttrs(ADDRESS).same_node(LeaseAttrs(None, ADDRESS6))
