"""Ranges and range sets: from which addresses host-local may choose.

A range is a part of a subnet, from `start` to `end`, both included. A range set is a pool of ranges of one family; a
pod gets one address from each set. Checks and their texts are those of the official plugin.
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.gojson import Fields
from cni.lib.ip import IPNet, format_ip, from_number, number
from cni.lib.types import read_cidr, read_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SMALLEST_HOST_BITS = 2


class Range:
    """Addresses `start` to `end` of `subnet`, and the subnet's gateway, which is never given out."""

    __slots__ = ("end", "gateway", "start", "subnet")

    def __init__(
        self, subnet: IPNet | None, start: bytes | None = None, end: bytes | None = None, gateway: bytes | None = None
    ) -> None:
        """What is None takes its default: gateway and start the first address, end the last. Raises CniError."""
        if subnet is None:
            raise CniError("IP <nil> not v4 nor v6")
        _check_subnet(subnet)
        length = len(subnet.ip)
        first = from_number(number(subnet.ip) + 1, length)
        last = subnet.last if length == 16 else from_number(number(subnet.last) - 1, length)
        self.subnet = subnet
        self.gateway = gateway or first
        if start and not (subnet.contains(start) and (end is None or start <= end)):
            raise CniError(f"RangeStart {format_ip(start)} not in network {subnet}")
        self.start = start or first
        if end and not (subnet.contains(end) and self.start <= end):
            raise CniError(f"RangeEnd {format_ip(end)} not in network {subnet}")
        self.end = end or last

    def __contains__(self, ip: bytes) -> bool:
        return len(ip) == len(self.start) and self.start <= ip <= self.end

    def overlaps(self, other: Range) -> bool:
        """Whether an address lies in both."""
        return self.start in other or other.start in self

    def __str__(self) -> str:
        return f"{format_ip(self.start)}-{format_ip(self.end)}"


RangeArguments = tuple["IPNet | None", "bytes | None", "bytes | None", "bytes | None"]


def read_range(fields: Fields) -> RangeArguments:
    """The arguments of a Range from its JSON object, decoded but not yet checked against each other."""
    subnet = read_cidr(fields, "subnet") if fields.text("subnet") else None
    return subnet, read_ip(fields, "rangeStart"), read_ip(fields, "rangeEnd"), read_ip(fields, "gateway")


def _check_subnet(subnet: IPNet) -> None:
    if subnet.host_bits < SMALLEST_HOST_BITS:
        raise CniError(f"Network {subnet} too small to allocate from")
    if subnet.ip != subnet.network.ip:
        raise CniError(
            f"Network has host bits set. For a subnet mask of length {subnet.prefix_len} "
            f"the network address is {format_ip(subnet.network.ip)}"
        )


class RangeSet:
    """A pool: ranges of one family that do not overlap."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: list[Range]) -> None:
        """Raises CniError."""
        if not ranges:
            raise CniError("empty range set")
        if any(len(item.start) != len(ranges[0].start) for item in ranges):
            raise CniError("mixed address families")
        for i, one in enumerate(ranges):
            for other in ranges[i + 1 :]:
                if one.overlaps(other):
                    raise CniError(f"subnets {one} and {other} overlap")
        self.ranges = ranges

    @property
    def address_length(self) -> int:
        """4 or 16."""
        return len(self.ranges[0].start)

    def range_of(self, ip: bytes) -> Range | None:
        """The range that holds an address."""
        return next((item for item in self.ranges if ip in item), None)

    def overlaps(self, other: RangeSet) -> bool:
        """Whether an address lies in both."""
        return any(one.overlaps(two) for one in self.ranges for two in other.ranges)

    def candidates(self, last: bytes | None) -> Iterator[tuple[bytes, Range]]:
        """Every address but the gateways, once: from the one after `last` on, around to `last` itself."""
        first = next((i for i, item in enumerate(self.ranges) if last is not None and last in item), None)
        if first is None or last is None:
            for item in self.ranges:
                yield from _addresses(item, item.start, item.end)
            return
        start_range = self.ranges[first]
        if last < start_range.end:
            yield from _addresses(start_range, from_number(number(last) + 1, len(last)), start_range.end)
        for item in self.ranges[first + 1 :] + self.ranges[:first]:
            yield from _addresses(item, item.start, item.end)
        yield from _addresses(start_range, start_range.start, last)

    def __str__(self) -> str:
        return ",".join(str(item) for item in self.ranges)


def _addresses(item: Range, start: bytes, end: bytes) -> Iterator[tuple[bytes, Range]]:
    length = len(start)
    value, stop = number(start), number(end)
    while value <= stop:
        ip = from_number(value, length)
        if ip != item.gateway:
            yield ip, item
        value += 1
