"""IP addresses and prefixes, read and printed as Go's net package does.

An address is a `bytes` object of 4 or 16 in network order, so one code path serves both families and the kernel
takes it as it is. A v4-mapped IPv6 address is an IPv4 address, as in Go. `IPNet` is an address with a prefix length
and keeps its host bits: 10.1.2.3/24 is the address 10.1.2.3 on the network 10.1.2.0/24.

The standard library's ipaddress does the same job; it costs 4 ms to import, a quarter of a whole ADD.
"""

from __future__ import annotations

from cni.lib.lean import socket

AF_INET: int = socket.AF_INET
AF_INET6: int = socket.AF_INET6
V4_MAPPED = bytes(10) + b"\xff\xff"


def parse_ip(text: str) -> bytes | None:
    """The address that `text` spells, or None if it spells none (Go's net.ParseIP)."""
    try:
        packed = socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(V4_MAPPED) and len(packed) == 16 else packed


def format_ip(ip: bytes) -> str:
    """The canonical text of an address: lower case, longest run of zeros compressed."""
    text = socket.inet_ntop(family(ip), ip)
    if len(ip) == 16 and "." in text:  # the C library ends ::a.b.c.d in dotted form, Go does not
        head = text[: text.rindex(":") + 1]
        return f"{head}{int.from_bytes(ip[12:14], 'big'):x}:{int.from_bytes(ip[14:], 'big'):x}"
    return text


def family(ip: bytes) -> int:
    """AF_INET or AF_INET6."""
    return AF_INET if len(ip) == 4 else AF_INET6


def number(ip: bytes) -> int:
    """The address as an integer."""
    return int.from_bytes(ip, "big")


def from_number(value: int, length: int) -> bytes:
    """The address of `length` bytes (4 or 16) whose integer is `value`."""
    return value.to_bytes(length, "big")


class IPNet:
    """An address with its prefix length."""

    __slots__ = ("ip", "prefix_len")

    def __init__(self, ip: bytes, prefix_len: int) -> None:
        self.ip = ip
        self.prefix_len = prefix_len

    @property
    def host_bits(self) -> int:
        """How many low bits belong to hosts."""
        return len(self.ip) * 8 - self.prefix_len

    @property
    def network(self) -> IPNet:
        """The same prefix with the host bits cleared."""
        return IPNet(from_number(number(self.ip) >> self.host_bits << self.host_bits, len(self.ip)), self.prefix_len)

    @property
    def last(self) -> bytes:
        """The highest address: of an IPv4 subnet, its broadcast address."""
        return from_number(number(self.ip) | ((1 << self.host_bits) - 1), len(self.ip))

    def contains(self, ip: bytes) -> bool:
        """Whether `ip` lies in this prefix."""
        return len(ip) == len(self.ip) and number(ip) >> self.host_bits == number(self.ip) >> self.host_bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IPNet) and (self.ip, self.prefix_len) == (other.ip, other.prefix_len)

    def __hash__(self) -> int:
        return hash((self.ip, self.prefix_len))

    def __str__(self) -> str:
        return f"{format_ip(self.ip)}/{self.prefix_len}"

    def __repr__(self) -> str:
        return f"IPNet({self})"


def parse_cidr(text: str) -> IPNet | None:
    """`a.b.c.d/n` or `x::y/n`, or None (Go's net.ParseCIDR; the host bits are kept)."""
    address, slash, length = text.partition("/")
    packed = parse_ip(address)
    if packed is None or not slash or not (length.isascii() and length.isdigit()) or len(length) > 3:
        return None
    bits = 128 if ":" in address else 32
    prefix_len = int(length)
    if prefix_len > bits or (len(length) > 1 and length[0] == "0"):
        return None
    if bits == 128 and len(packed) == 4:  # v4-mapped: the prefix counts from the mapped form
        prefix_len -= 96
        if prefix_len < 0:
            return None
    return IPNet(packed, prefix_len)


def default_net(length: int) -> IPNet:
    """0.0.0.0/0 or ::/0, by the length of an address."""
    return IPNet(bytes(length), 0)
