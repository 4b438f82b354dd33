"""Names for "either family": most of udplane does the same with IPv4 and IPv6, so its annotations say so once."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


def address_of(packed: bytes) -> Address:
    """The address in 4 or 16 bytes, network order."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def network_of(packed: bytes, length: int) -> Network:
    """The network of the address in 4 or 16 bytes, with a prefix of `length` bits."""
    return IPv4Network((packed, length)) if len(packed) == 4 else IPv6Network((packed, length))
