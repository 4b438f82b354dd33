"""The peers' leases as changes of routes, checked against a plain model."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from dataplane.leases.gate import LeaseGate
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.leases.table import LeaseTable


def lease(subnet: str, host: int, subnet6: str | None = None, expires: float = 1.0) -> Lease:
    ipv6 = IPv6Network(subnet6) if subnet6 else None
    return Lease(Subnets(IPv4Network(subnet), ipv6), LeaseAttrs(IPv4Address(f"192.168.0.{host}")), expires)


GATE = LeaseGate(NetworkConfig.parse('{"Network": "10.5.0.0/16"}'), any_length=True)
OWN = lease("10.5.1.0/24", 1)
TWO = lease("10.5.2.0/24", 2)
THREE = lease("10.5.3.0/24", 3)


class Table(LeaseTable):
    """A table that is settled after each word of the store."""

    def __init__(self) -> None:
        super().__init__(OWN, GATE)

    def reset(self, leases: Iterable[Lease]) -> list[LeaseEvent]:
        self.replace(leases)
        return self.settle()

    def apply(self, event: LeaseEvent) -> list[LeaseEvent]:
        self.note(event)
        return self.settle()


def added(what: Lease) -> LeaseEvent:
    return LeaseEvent(Change.ADDED, what)


def refused(what: Lease) -> LeaseEvent:
    return LeaseEvent(Change.REFUSED, what)


def removed(what: Lease) -> LeaseEvent:
    return LeaseEvent(Change.REMOVED, what)


def test_a_snapshot_is_compared_with_what_is_known() -> None:
    table = Table()
    assert table.reset([OWN, TWO]) == [added(TWO)]
    assert table.reset([OWN, TWO]) == []
    assert table.reset([THREE]) == [removed(TWO), added(THREE)]
    assert list(table.peers.values()) == [THREE]


def test_events_are_followed() -> None:
    table = Table()
    assert table.apply(added(TWO)) == [added(TWO)]
    assert table.apply(added(replace(TWO, expires=9.0))) == []
    assert table.apply(removed(replace(TWO, attrs=LeaseAttrs()))) == [removed(TWO)]
    assert table.apply(removed(TWO)) == []


def test_a_peer_that_moves_to_another_public_address_is_followed() -> None:
    table, moved = Table(), lease("10.5.2.0/24", 22)
    table.reset([TWO])
    assert table.apply(added(moved)) == [LeaseEvent(Change.CHANGED, moved)]
    assert table.reset([TWO]) == [LeaseEvent(Change.CHANGED, TWO)]


def test_no_route_ever_leads_to_the_node_itself() -> None:
    table, stale = Table(), lease("10.5.9.0/24", 1)
    assert table.reset([OWN, stale, replace(OWN, attrs=TWO.attrs)]) == [refused(stale)]
    assert "names this node's own public address" in table.refused[stale.key].reason
    taken_over = lease("10.5.9.0/24", 9)
    assert table.apply(added(taken_over)) == [added(taken_over)]
    assert table.apply(added(stale)) == [removed(taken_over), refused(stale)]


def test_of_overlapping_leases_the_older_is_used_until_it_goes() -> None:
    table, two = Table(), replace(TWO, since=7)
    wide, narrow, inside_own = lease("10.5.2.0/23", 4), lease("10.5.2.128/25", 5), lease("10.5.1.0/25", 6)
    wide, narrow = replace(wide, since=9), replace(narrow, since=8)
    assert table.reset([two, THREE]) == [added(THREE), added(two)]
    wide_conflict = replace(THREE, since=10)
    assert table.reset([two, wide_conflict]) == []
    for late in (narrow, inside_own):
        assert table.apply(added(late)) == [refused(late)]
        assert table.apply(added(late)) == []
    assert table.refused[narrow.key].reason == f"it overlaps {two}"
    assert table.refused[inside_own.key].reason == f"it overlaps {OWN}"
    assert table.apply(removed(two)) == [removed(two), added(narrow)]
    assert table.apply(removed(narrow)) == [removed(narrow)]
    assert table.apply(added(wide)) == [removed(THREE), added(wide), refused(wide_conflict)]
    assert list(table.peers) == [wide.key]


def test_where_the_age_is_unknown_the_lower_addresses_are_used_in_whatever_order_they_come() -> None:
    low, high = lease("10.5.2.0/23", 4), lease("10.5.3.0/24", 5)
    for first, second in ((low, high), (high, low)):
        table = Table()
        table.apply(added(first))
        table.apply(added(second))
        assert (list(table.peers), list(table.refused)) == ([low.key], [high.key])


def test_what_is_refused_is_reported_once_and_again_when_the_reason_is_another() -> None:
    table, outside = Table(), lease("10.6.2.0/24", 2)
    assert table.reset([outside]) == [refused(outside)]
    assert table.reset([outside, THREE]) == [added(THREE)]
    own_address = replace(outside, attrs=OWN.attrs)
    assert table.reset([own_address, THREE]) == [refused(own_address)]
    assert table.reset([THREE]) == []
    assert table.refused == {}


def test_a_node_with_another_lease_judges_all_of_them_again() -> None:
    table = Table()
    table.reset([OWN, TWO, THREE])
    table.adopt(replace(TWO, attrs=OWN.attrs))
    table.replace([TWO, THREE])
    assert table.settle() == [removed(TWO)]
    table.adopt(OWN)
    assert table.settle() == [added(TWO)]


def test_a_peer_that_gets_a_second_family_is_the_same_where_that_family_is_off() -> None:
    table, dual = Table(), lease("10.5.2.0/24", 2, "fd00:2::/64")
    table.reset([TWO])
    assert table.apply(added(dual)) == [refused(dual)]
    assert table.apply(removed(TWO)) == []
    assert table.reset([TWO]) == []


leases = st.builds(
    lambda number, length, host: lease(str(IPv4Network((0x0A050000 + (number << 6), length), strict=False)), host),
    st.integers(0, 15),
    st.integers(22, 26),
    st.integers(1, 6),
)
updates = st.lists(leases) | st.builds(LeaseEvent, st.sampled_from([Change.ADDED, Change.REMOVED]), leases)


@given(st.lists(updates, max_size=30))
def test_the_table_is_always_disjoint_and_its_changes_tell_the_whole_story(
    story: list[list[Lease] | LeaseEvent],
) -> None:
    table = Table()
    reported: dict[str, Lease] = {}
    routes: dict[str, Lease] = {}
    for update in story:
        if isinstance(update, LeaseEvent):
            if update.change is Change.REMOVED:
                reported.pop(update.lease.key, None)
            else:
                reported[update.lease.key] = update.lease
            changes = table.apply(update)
        else:
            reported = {item.key: item for item in update}
            changes = table.reset(update)
        for event in changes:
            if event.change is Change.REMOVED:
                del routes[event.lease.key]
            elif event.change is not Change.REFUSED:
                assert (event.lease.key in routes) == (event.change is Change.CHANGED)
                routes[event.lease.key] = event.lease
        assert routes == table.peers
        used = [OWN, *routes.values()]
        for index, one in enumerate(used):
            assert not any(one.subnets.overlaps(other.subnets) for other in used[index + 1 :])
        for item in reported.values():
            own = item.attrs.same_node(OWN.attrs)
            overlaps = any(item.subnets.overlaps(other.subnets) for other in used if other.key != item.key)
            assert (table.peers.get(item.key) == item) == (item.key != OWN.key and not own and not overlaps)
            assert (item.key in table.refused) == (item.key != OWN.key and (own or overlaps))
        assert table.peers.keys() | table.refused.keys() <= reported.keys()
