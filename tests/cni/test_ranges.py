"""Ranges and range sets, against a plain model: the list of all addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cni.lib.ip import parse_cidr
from cni.lib.ranges import Range, RangeSet


@st.composite
def range_sets(draw: st.DrawFn) -> tuple[RangeSet, list[bytes]]:
    """A range set of small subnets, and every address it may give out, in order."""
    ranges, model = [], []
    for third in draw(st.lists(st.integers(0, 255), min_size=1, max_size=3, unique=True)):
        length = draw(st.integers(27, 30))
        hosts = [address.packed for address in ip_network(f"10.0.{third}.0/{length}").hosts()]
        start = draw(st.sampled_from(hosts))
        end = draw(st.sampled_from([host for host in hosts if host >= start]))
        gateway = draw(st.sampled_from(hosts))
        ranges.append(Range(parse_cidr(f"10.0.{third}.0/{length}"), start, end, gateway))
        model += [host for host in hosts if start <= host <= end and host != gateway]
    return RangeSet(ranges), model


@given(range_sets(), st.data())
def test_candidates_are_all_addresses_once_beginning_after_the_last(
    given_set: tuple[RangeSet, list[bytes]], data: st.DataObject
) -> None:
    range_set, model = given_set
    assert [ip for ip, _ in range_set.candidates(None)] == model
    assert [ip for ip, _ in range_set.candidates(ip_address("192.0.2.1").packed)] == model
    if model:
        last = data.draw(st.sampled_from(model))
        turn = model.index(last) + 1
        assert [ip for ip, _ in range_set.candidates(last)] == model[turn:] + model[:turn]


@given(range_sets(), range_sets())
def test_overlap_is_a_common_address(one: tuple[RangeSet, list[bytes]], two: tuple[RangeSet, list[bytes]]) -> None:
    def addresses(range_set: RangeSet) -> set[int]:
        return {
            number
            for item in range_set.ranges
            for number in range(int.from_bytes(item.start, "big"), int.from_bytes(item.end, "big") + 1)
        }

    assert one[0].overlaps(two[0]) == bool(addresses(one[0]) & addresses(two[0]))


def test_defaults_leave_out_the_network_and_the_broadcast_address() -> None:
    v4 = Range(parse_cidr("10.1.2.0/24"))
    assert (str(v4), v4.gateway) == ("10.1.2.1-10.1.2.254", bytes([10, 1, 2, 1]))
    v6 = Range(parse_cidr("fd00::/120"))
    assert str(v6) == "fd00::1-fd00::ff"
