"""Leases that somebody wrote who means no good, and what a node makes of them."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import strategies as st

from dataplane.leases.gate import LeaseGate
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.leases.table import LeaseTable

PLAIN = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
DUAL = NetworkConfig.parse('{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}')
OWN = Lease(Subnets(IPv4Network("10.5.1.0/24")), LeaseAttrs(IPv4Address("192.168.0.1")))


def lease(key: str, *addresses: str, since: int = 0) -> Lease:
    by_version = {ip_address(text).version: ip_address(text) for text in addresses or ("192.168.0.9",)}
    ipv4, ipv6 = by_version.get(4), by_version.get(6)
    assert ipv4 is None or isinstance(ipv4, IPv4Address)
    assert ipv6 is None or isinstance(ipv6, IPv6Address)
    return Lease(Subnets.from_key(key), LeaseAttrs(ipv4, ipv6), since=since)


# Networks, lengths and addresses that are close to what is allowed and to each other.
_bases4 = st.sampled_from([0x0A050000, 0x0A040000, 0x08080000, 0x7F000000, 0xE0000000])
_subnets4 = st.builds(
    lambda base, number, length: IPv4Network((base + (number << 6), length), strict=False),
    _bases4,
    st.integers(0, 15),
    st.sampled_from([1, 8, 15, 16, 23, 24, 24, 24, 24, 25, 30, 32]),
)
_bases6 = st.sampled_from([0xFD000005 << 96, 0xFD000004 << 96, 0xFFFF0A050000, 0xFF020000 << 96, 0])
_subnets6 = st.builds(
    lambda base, number, length: IPv6Network((base + (number << 62), length), strict=False),
    _bases6,
    st.integers(0, 9),
    st.sampled_from([47, 48, 63, 64, 64, 64, 65, 120, 128]),
) | _subnets4.map(lambda net: IPv6Network((0xFFFF << 32 | int(net.network_address), 96 + net.prefixlen)))
ODD_ADDRESSES = """
    192.168.0.1 192.168.0.2 192.168.0.3 127.0.0.1 224.0.0.1 255.255.255.255 10.5.2.1
    fd01::1 fe80::1 ff02::1 ::1 ::ffff:192.168.0.2
"""
_addresses = st.sampled_from(ODD_ADDRESSES.split())
any_lease = st.builds(
    lambda nets, addresses, since: lease(Subnets.of(nets).key, *addresses, since=since),
    st.tuples(_subnets4) | st.tuples(_subnets6) | st.tuples(_subnets4, _subnets6),
    st.lists(_addresses, min_size=1, max_size=2),
    st.integers(0, 3),
)
any_gates = st.builds(
    lambda config, any_length: (config, LeaseGate(config, OWN.attrs.addresses, any_length=any_length)),
    st.sampled_from([PLAIN, DUAL]),
    st.booleans(),
)


def peers_of(gate: LeaseGate, leases: Iterable[Lease]) -> dict[str, Lease]:
    table = LeaseTable(OWN, gate)
    table.replace(leases)
    table.settle()
    return table.peers
