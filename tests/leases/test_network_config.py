"""The network config: flannel's keys, defaults, bounds and refusals, for both families."""

import json
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError
from dataplane.leases.lease import Subnets
from dataplane.leases.network_config import NetworkConfig


def parse(**keys: object) -> NetworkConfig:
    return NetworkConfig.parse(json.dumps(keys))


def parse_ipv6(**keys: object) -> NetworkConfig:
    return parse(EnableIPv4=False, EnableIPv6=True, **keys)


# (keys, subnet length, first subnet, last subnet), worked out by hand from flannel's documentation.
IPV4_CASES: list[tuple[dict[str, object], int, str, str]] = [
    ({"Network": "10.5.0.0/16"}, 24, "10.5.1.0", "10.5.255.0"),
    ({"Network": "10.5.3.4/16"}, 24, "10.5.1.0", "10.5.255.0"),
    ({"Network": "10.0.0.0/8"}, 24, "10.0.1.0", "10.255.255.0"),
    ({"Network": "10.5.0.0/22"}, 24, "10.5.1.0", "10.5.3.0"),
    ({"Network": "10.5.0.0/23"}, 25, "10.5.0.128", "10.5.1.128"),
    ({"Network": "10.5.0.0/24"}, 26, "10.5.0.64", "10.5.0.192"),
    ({"Network": "10.5.0.0/28"}, 30, "10.5.0.4", "10.5.0.12"),
    ({"Network": "10.5.0.0/16", "SubnetLen": 28}, 28, "10.5.0.16", "10.5.255.240"),
    ({"Network": "10.5.0.0/16", "SubnetLen": 18}, 18, "10.5.64.0", "10.5.192.0"),
    ({"Network": "10.5.0.0/16", "SubnetLen": 0}, 24, "10.5.1.0", "10.5.255.0"),
    ({"Network": "10.5.0.0/16", "SubnetMin": "10.5.10.0"}, 24, "10.5.10.0", "10.5.255.0"),
    ({"Network": "10.5.0.0/16", "SubnetMax": "10.5.99.0"}, 24, "10.5.1.0", "10.5.99.0"),
    ({"Network": "10.5.0.0/16", "SubnetMin": "10.5.0.0", "SubnetMax": "10.5.0.0"}, 24, "10.5.0.0", "10.5.0.0"),
    ({"Network": "10.5.0.0/16", "SubnetMin": "0.0.0.0", "SubnetMax": None}, 24, "10.5.1.0", "10.5.255.0"),
]


@pytest.mark.parametrize(("keys", "length", "first", "last"), IPV4_CASES)
def test_ipv4_pools(keys: dict[str, object], length: int, first: str, last: str) -> None:
    pool = parse(**keys).ipv4
    assert pool is not None
    assert (pool.subnet_len, str(pool.first), str(pool.last)) == (length, f"{first}/{length}", f"{last}/{length}")


IPV6_CASES: list[tuple[dict[str, object], int, str, str]] = [
    ({"IPv6Network": "fd00:5::/48"}, 64, "fd00:5:0:1::", "fd00:5:0:ffff::"),
    ({"IPv6Network": "fd00:5::/62"}, 64, "fd00:5:0:1::", "fd00:5:0:3::"),
    ({"IPv6Network": "fd00:5::/63"}, 65, "fd00:5:0:0:8000::", "fd00:5:0:1:8000::"),
    ({"IPv6Network": "fd00:5::/124"}, 126, "fd00:5::4", "fd00:5::c"),
    ({"IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 112}, 112, "fd00:5::1:0", "fd00:5:0:ffff:ffff:ffff:ffff:0"),
    ({"IPv6Network": "fd00:5::/48", "IPv6SubnetMin": "fd00:5:0:9::"}, 64, "fd00:5:0:9::", "fd00:5:0:ffff::"),
    ({"IPv6Network": "fd00:5::/48", "IPv6SubnetMax": "fd00:5:0:9::"}, 64, "fd00:5:0:1::", "fd00:5:0:9::"),
]


@pytest.mark.parametrize(("keys", "length", "first", "last"), IPV6_CASES)
def test_ipv6_pools(keys: dict[str, object], length: int, first: str, last: str) -> None:
    config = parse_ipv6(**keys)
    assert config.ipv4 is None
    assert config.ipv6 is not None
    pool = config.ipv6
    assert (pool.subnet_len, str(pool.first), str(pool.last)) == (length, f"{first}/{length}", f"{last}/{length}")


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{}", 'no Network; give the whole pod network, as in "Network": "10.5.0.0/16"'),
        ('{"Network": ""}', "no Network"),
        ('{"Network": "0.0.0.0/0"}', "overlaps 0.0.0.0/8 (this host), which pods cannot have; give the pod network"),
        ('{"Network": "0.0.0.0/1"}', "overlaps 0.0.0.0/8"),
        ('{"Network": "128.0.0.0/1"}', "overlaps 224.0.0.0/4 (multicast)"),
        ('{"Network": "126.0.0.0/7"}', "overlaps 127.0.0.0/8 (loopback)"),
        ('{"Network": "169.254.7.0/24"}', "overlaps 169.254.0.0/16 (link-local)"),
        ('{"Network": "239.1.0.0/16"}', "(multicast)"),
        ('{"Network": "255.255.0.0/16"}', "(broadcast)"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "::/1"}', "overlaps ::/96"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "::ffff:10.5.0.0/112"}', "(IPv4 written as IPv6)"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fe80:1::/32"}', "overlaps fe80::/10 (link-local)"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "f000::/4"}', "link-local"),
        ('{"Network": "10.5.0.0"}', "ADDRESS/LENGTH"),
        ('{"Network": "10.5.0.0/255.255.0.0"}', "ADDRESS/LENGTH"),
        ('{"Network": "10.5.0.0/33"}', "not a network"),
        ('{"Network": "10.05.0.0/16"}', "not a network"),
        ('{"Network": "fd00::/48"}', "not a network"),
        ('{"Network": 10}', "Network must be a text"),
        ('{"Network": "10.5.0.0/29"}', "too small for four subnets; give a /28 or shorter"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": 31}', "SubnetLen 31 leaves no room"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": 17}', "SubnetLen 17 leaves fewer than four"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": -1}', "SubnetLen must be between"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": 24.0}', "SubnetLen must be a whole number"),
        ('{"Network": "10.5.0.0/16", "SubnetLen": "24"}', "SubnetLen must be a whole number"),
        ('{"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}', "SubnetMin 10.6.0.0 lies outside"),
        ('{"Network": "10.5.0.0/16", "SubnetMax": "10.6.0.0"}', "SubnetMax 10.6.0.0 lies outside"),
        ('{"Network": "10.5.0.0/16", "SubnetMin": "fd00::"}', "SubnetMin fd00:: lies outside"),
        ('{"Network": "10.5.0.0/16", "SubnetMin": "10.5.1.1"}', "10.5.1.0 would be"),
        ('{"Network": "10.5.0.0/16", "SubnetMin": "10.5.1.0/24"}', "SubnetMin"),
        ('{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}', "beyond SubnetMax"),
        ('{"EnableIPv4": "yes", "Network": "10.5.0.0/16"}', "EnableIPv4 must be true or false"),
        ('{"EnableIPv4": false}', "no address family"),
        (
            '{"Network": "10.5.0.0/16", "EnableIPv6": true}',
            'no IPv6Network; give the whole pod network, as in "IPv6Net',
        ),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/125"}', "give a /124 or shorter"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetLen": 127}', "126 or less"),
        ('{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fe80::1%eth0/64"}', "ADDRESS/LENGTH"),
        ('{"Network": "10.5.0.0/16", "Backend": "udp"}', "Backend must be an object"),
        ('{"Network": "10.5.0.0/16", "Backend": {"Type": 1}}', "Type must be a text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(document: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig.parse(document)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (None, "udp"),
        ({}, "udp"),
        ({"Type": None}, "udp"),
        ({"Type": ""}, "udp"),
        ({"Type": "udp"}, "udp"),
        ({"type": "VXLAN"}, "vxlan"),
        ({"Type": "host-gw"}, "host-gw"),
    ],
)
def test_the_backend_is_udp_unless_another_is_named(backend: object, expected: str) -> None:
    assert parse(Network="10.5.0.0/16", Backend=backend).backend.type == expected


def test_a_backend_reads_its_own_keys() -> None:
    backend = parse(Network="10.5.0.0/16", Backend={"Type": "vxlan", "port": 8472, "DirectRouting": True}).backend
    assert backend.integer("Port", 8285, 1, 65535) == 8472
    assert backend.integer("VNI", 1, 1, 1 << 24) == 1
    assert backend.boolean("DirectRouting", False) is True
    with pytest.raises(ConfigError, match="Port must be between 1 and 65535, not 0"):
        parse(Network="10.5.0.0/16", Backend={"Port": 0}).backend.integer("Port", 8285, 1, 65535)


def test_a_key_of_a_family_that_is_off_is_not_looked_at() -> None:
    assert parse(Network="10.5.0.0/16", IPv6Network="nonsense").ipv6 is None


def test_accepts_only_what_it_would_give_out() -> None:
    config = parse(Network="10.5.0.0/16", EnableIPv6=True, IPv6Network="fd00:5::/48", SubnetMax="10.5.9.0")
    ipv6 = IPv6Network("fd00:5:0:7::/64")
    assert config.accepts(Subnets(IPv4Network("10.5.9.0/24"), ipv6))
    for ipv4 in ("10.5.0.0/24", "10.5.10.0/24", "10.5.4.0/25", "10.5.4.0/23", "10.6.1.0/24"):
        assert not config.accepts(Subnets(IPv4Network(ipv4), ipv6))
    assert not config.accepts(Subnets(IPv4Network("10.5.9.0/24")))
    assert not config.accepts(Subnets(ipv6=ipv6))
    assert not parse(Network="10.5.0.0/16").accepts(Subnets(IPv4Network("10.5.9.0/24"), ipv6))


SPECIAL = "0.0.0.0 127.0.0.1 169.254.0.1 224.0.0.1 255.255.255.255 :: ::1 ::ffff:10.5.0.1 fe80::1 ff02::1"


def holds_special_addresses(network: IPv4Network | IPv6Network) -> bool:
    """By Python's own tables: whether one of its ends is special, or a special address of each kind lies in it."""
    if any(ip_address(text) in network for text in SPECIAL.split()):
        return True
    ends = (network.network_address, network.broadcast_address)
    return any(
        end.is_multicast
        or end.is_loopback
        or end.is_link_local
        or end.is_unspecified
        or int(end) >> (end.max_prefixlen - 8) == 0 == end.version - 4
        or (end.version == 6 and (end.ipv4_mapped is not None or int(end) < 1 << 32))
        for end in ends
    )


@given(
    st.integers(1, 28),
    st.one_of(st.none(), st.integers(0, 33)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([("", 32, IPv4Network), ("IPv6", 128, IPv6Network)]),
)
def test_every_pool_obeys_the_rules_and_survives_to_json(
    prefix_len: int, subnet_len: int | None, seed: int, family: tuple[str, int, type[IPv4Network] | type[IPv6Network]]
) -> None:
    prefix, bits, kind = family
    shift = bits - 32
    network = kind((seed << shift, prefix_len + shift), strict=False)
    keys: dict[str, object] = {"EnableIPv4": bits == 32, "EnableIPv6": bits == 128, f"{prefix}Network": str(network)}
    if subnet_len is not None:
        keys[f"{prefix}SubnetLen"] = subnet_len + shift if subnet_len else 0
    try:
        config = parse(**keys)
    except ConfigError as error:
        if "which pods cannot have" in str(error):
            assert holds_special_addresses(network)
            return
        assert subnet_len is not None
        assert subnet_len > 30 or subnet_len < prefix_len + 2
        return
    assert not holds_special_addresses(network)
    pool = config.ipv4 or config.ipv6
    assert pool is not None
    assert network.prefixlen + 2 <= pool.subnet_len <= bits - 2
    assert pool.size == 2 ** (pool.subnet_len - network.prefixlen) - 1
    assert pool.last.broadcast_address == network.broadcast_address
    assert int(pool.first.network_address) == int(network.network_address) + pool.first.num_addresses
    assert NetworkConfig.parse(config.to_json()) == config


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda x: st.lists(x), max_leaves=3)
)
def test_any_value_under_any_key_is_read_or_refused(value: object) -> None:
    for key in ("Network", "SubnetLen", "SubnetMin", "SubnetMax", "EnableIPv4", "EnableNFTables", "Backend"):
        keys: dict[str, object] = {"Network": "10.5.0.0/16", key: value}
        try:
            config = parse(**keys)
        except ConfigError as error:
            assert "\n" not in str(error)
        else:
            assert NetworkConfig.parse(config.to_json()) == config
