"""The peers' leases as changes of routes, checked against a plain model."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from dataplane.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.lease_table import LeaseTable


def lease(subnet: str, host: int, subnet6: str | None = None, expires: float = 1.0) -> Lease:
    ipv6 = IPv6Network(subnet6) if subnet6 else None
    return Lease(Subnets(IPv4Network(subnet), ipv6), LeaseAttrs(IPv4Address(f"192.168.0.{host}")), expires)


OWN = lease("10.5.1.0/24", 1)
TWO = lease("10.5.2.0/24", 2)
THREE = lease("10.5.3.0/24", 3)


def added(what: Lease) -> LeaseEvent:
    return LeaseEvent(Change.ADDED, what)


def removed(what: Lease) -> LeaseEvent:
    return LeaseEvent(Change.REMOVED, what)


def test_a_snapshot_is_compared_with_what_is_known() -> None:
    table = LeaseTable(OWN)
    assert table.reset([OWN, TWO]) == [added(TWO)]
    assert table.reset([OWN, TWO]) == []
    assert table.reset([THREE]) == [removed(TWO), added(THREE)]
    assert list(table.peers.values()) == [THREE]


def test_events_are_followed() -> None:
    table = LeaseTable(OWN)
    assert table.apply(added(TWO)) == [added(TWO)]
    assert table.apply(added(replace(TWO, expires=9.0))) == []
    assert table.apply(removed(replace(TWO, attrs=LeaseAttrs()))) == [removed(replace(TWO, expires=9.0))]
    assert table.apply(removed(TWO)) == []


def test_a_peer_that_moves_to_another_public_address_is_followed() -> None:
    table, moved = LeaseTable(OWN), lease("10.5.2.0/24", 22)
    table.reset([TWO])
    assert table.apply(added(moved)) == [LeaseEvent(Change.CHANGED, moved)]
    assert table.reset([TWO]) == [LeaseEvent(Change.CHANGED, TWO)]


def test_no_route_ever_leads_to_the_node_itself() -> None:
    table, stale = LeaseTable(OWN), lease("10.5.9.0/24", 1)
    assert table.reset([OWN, stale, replace(OWN, attrs=TWO.attrs)]) == []
    taken_over = lease("10.5.9.0/24", 9)
    assert table.apply(added(taken_over)) == [added(taken_over)]
    assert table.apply(added(stale)) == [removed(taken_over)]


def test_of_overlapping_leases_the_first_is_used_until_it_goes() -> None:
    table = LeaseTable(OWN)
    wide, narrow, inside_own = lease("10.5.2.0/23", 4), lease("10.5.2.128/25", 5), lease("10.5.1.0/25", 6)
    assert table.reset([TWO, THREE]) == [added(TWO), added(THREE)]
    for late in (wide, narrow, inside_own):
        assert table.apply(added(late)) == [LeaseEvent(Change.REFUSED, late)]
        assert table.apply(added(late)) == []
    assert table.conflict(narrow) == TWO
    assert table.conflict(inside_own) == OWN
    assert table.apply(removed(TWO)) == [removed(TWO), added(narrow)]
    assert table.apply(removed(wide)) == []
    assert list(table.refused.values()) == [inside_own]


def test_a_peer_that_gets_a_second_family_is_another_lease() -> None:
    table, dual = LeaseTable(OWN), lease("10.5.2.0/24", 2, "fd00:2::/64")
    table.reset([TWO])
    assert table.apply(added(dual)) == [LeaseEvent(Change.REFUSED, dual)]
    assert table.apply(removed(TWO)) == [removed(TWO), added(dual)]
    assert table.reset([TWO]) == [removed(dual), added(TWO)]


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
    table = LeaseTable(OWN)
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
            own = item.key == OWN.key or item.attrs.same_node(OWN.attrs)
            refused = any(item.subnets.overlaps(other.subnets) for other in used if other.key != item.key)
            assert (table.peers.get(item.key) == item) == (not own and not refused)
            assert (item.key in table.refused) == (not own and refused)
        assert table.peers.keys() | table.refused.keys() <= reported.keys()
