"""The life of a lease under a clock that the test moves."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.leases.keeper import TRANSITIONS, Action, Incident, LeaseKeeper, State, Step
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets

DAY, HOUR = 86400.0, 3600.0
LEASE = Lease(Subnets(IPv4Network("10.5.1.0/24")), LeaseAttrs(IPv4Address("192.168.0.1")), DAY)
ELSEWHERE = replace(LEASE, subnets=Subnets(IPv4Network("10.5.2.0/24")))
STRANGERS = replace(LEASE, attrs=LeaseAttrs(IPv4Address("192.168.0.9")))


def keeper_with_lease(lease: Lease = LEASE) -> LeaseKeeper:
    keeper = LeaseKeeper(HOUR, random.Random(1))
    assert keeper.next_step(0.0) == Step(Action.ACQUIRE, 0.0)
    keeper.granted(lease, 0.0)
    return keeper


def test_a_lease_is_renewed_an_hour_before_it_expires() -> None:
    keeper = keeper_with_lease()
    assert keeper.next_step(0.0) == Step(Action.WAIT, DAY - HOUR)
    assert keeper.next_step(DAY - HOUR - 1) == Step(Action.WAIT, DAY - HOUR)
    assert keeper.next_step(DAY - HOUR) == Step(Action.RENEW, DAY - HOUR)
    keeper.granted(replace(LEASE, expires=2 * DAY), DAY - HOUR)
    assert keeper.next_step(DAY - HOUR) == Step(Action.WAIT, 2 * DAY - HOUR)
    assert keeper.state is State.HELD


def test_a_short_lease_is_renewed_after_half_of_its_life() -> None:
    assert keeper_with_lease(replace(LEASE, expires=60.0)).next_step(0.0) == Step(Action.WAIT, 30.0)


def test_a_reservation_is_never_renewed() -> None:
    assert keeper_with_lease(replace(LEASE, expires=None)).next_step(10 * DAY) == Step(Action.WAIT, None)


def test_retries_back_off_from_a_second_to_a_minute_and_start_anew_after_success() -> None:
    keeper, now, waits = LeaseKeeper(HOUR, random.Random(1)), 0.0, []
    for _ in range(10):
        keeper.failed("the store is away", now)
        step = keeper.next_step(now)
        assert step.action is Action.ACQUIRE
        assert step.at is not None
        waits.append(step.at - now)
        now = step.at
    for wait, nominal in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert 0.75 * nominal <= wait <= 1.25 * nominal
    assert keeper.reason == "the store is away"
    keeper.granted(LEASE, now)
    assert keeper.reason == ""
    assert keeper.next_step(DAY - HOUR).action is Action.RENEW
    keeper.failed("away again", DAY - HOUR)
    assert keeper.next_step(DAY - HOUR).at == pytest.approx(DAY - HOUR + 1, abs=0.25)


def test_a_node_that_is_cut_off_past_the_expiry_asks_for_its_subnets_again() -> None:
    keeper = keeper_with_lease()
    assert keeper.next_step(DAY - 1).action is Action.RENEW
    keeper.failed("no route to the store", DAY - 1)
    assert keeper.next_step(DAY + HOUR) == Step(Action.ACQUIRE, DAY + HOUR)
    assert keeper.state is State.EXPIRED
    keeper.observed(None, DAY + HOUR)
    assert keeper.next_step(DAY + HOUR) == Step(Action.ACQUIRE, DAY + HOUR)
    keeper.granted(replace(LEASE, expires=3 * DAY), DAY + HOUR)
    assert keeper.next_step(DAY + HOUR) == Step(Action.WAIT, 3 * DAY - HOUR)


def test_an_expired_lease_that_went_to_another_node_is_lost() -> None:
    keeper = keeper_with_lease()
    keeper.next_step(DAY)
    keeper.granted(ELSEWHERE, DAY)
    assert keeper.state is State.LOST
    assert "10.5.1.0/24 expired" in keeper.reason
    assert keeper.next_step(DAY) == Step(Action.STOP, None)
    keeper.restarted()
    assert keeper.next_step(DAY).action is Action.ACQUIRE
    keeper.granted(ELSEWHERE, DAY)
    assert keeper.lease == ELSEWHERE


def test_a_revoked_lease_is_noticed_and_said() -> None:
    keeper = keeper_with_lease()
    keeper.observed(None, DAY - 1)
    assert keeper.state is State.LOST
    assert "revoked" in keeper.reason


def test_a_lease_that_vanishes_after_its_time_has_expired() -> None:
    keeper = keeper_with_lease()
    keeper.observed(None, DAY)
    assert keeper.next_step(DAY).action is Action.ACQUIRE
    assert keeper.state is State.EXPIRED


def test_a_reservation_that_vanishes_is_revoked() -> None:
    keeper = keeper_with_lease(replace(LEASE, expires=None))
    keeper.observed(None, 100 * DAY)
    assert keeper.state is State.LOST


def test_a_subnet_that_somebody_else_wrote_is_lost() -> None:
    keeper = keeper_with_lease()
    keeper.observed(STRANGERS, 1.0)
    assert keeper.state is State.LOST
    assert "192.168.0.9" in keeper.reason


def test_an_expiry_that_somebody_else_changed_is_followed() -> None:
    keeper = keeper_with_lease()
    keeper.observed(LEASE, 1.0)
    assert keeper.next_step(1.0) == Step(Action.WAIT, DAY - HOUR)
    keeper.observed(replace(LEASE, expires=4 * HOUR), 1.0)
    assert keeper.next_step(1.0) == Step(Action.WAIT, 3 * HOUR)


def test_a_rival_is_answered_once_an_hour_and_forgotten_when_he_is_quiet() -> None:
    keeper, now, answers = keeper_with_lease(), 100.0, 0
    for number in range(5):
        keeper.observed(replace(LEASE, expires=DAY + number + 1, rewritten=True), now)
        step = keeper.next_step(now)
        if step.action is Action.RENEW:
            answers += 1
            keeper.granted(replace(LEASE, expires=DAY + now), now)
        now += 60
        assert "another node has the public address 192.168.0.1" in keeper.rival
    assert answers == 1
    keeper.observed(replace(LEASE, expires=None, rewritten=True), now)
    assert keeper.next_step(now) == Step(Action.WAIT, None)
    now += HOUR
    keeper.granted(replace(LEASE, expires=2 * DAY), now)
    assert keeper.rival == ""
    keeper.observed(replace(LEASE, expires=3 * DAY), now)
    assert keeper.rival == ""


def test_what_the_watch_says_does_not_matter_without_a_lease() -> None:
    keeper = LeaseKeeper()
    keeper.observed(STRANGERS, 0.0)
    keeper.observed(None, 0.0)
    assert keeper.state is State.ACQUIRING


def test_every_state_can_be_left_and_every_event_happens_somewhere() -> None:
    assert TRANSITIONS.keys() == set(State)
    assert {event for events in TRANSITIONS.values() for event in events} == set(Incident)
    assert all(TRANSITIONS.values())


def test_an_event_that_cannot_be_is_a_bug_and_changes_nothing() -> None:
    keeper = keeper_with_lease()
    with pytest.raises(AssertionError, match="a lease that is held cannot be restarted"):
        keeper.restarted()
    assert keeper.state is State.HELD


outcomes = st.sampled_from(["work", "fail", "stranger", "gone", "same", "lost"])


@given(st.lists(st.tuples(outcomes, st.floats(0.0, DAY)), max_size=40), st.integers())
def test_whatever_happens_the_node_knows_what_to_do_and_never_renews_what_it_lost(
    story: list[tuple[str, float]], seed: int
) -> None:
    keeper, now = LeaseKeeper(HOUR, random.Random(seed)), 0.0
    for outcome, passed in story:
        now += passed
        step = keeper.next_step(now)
        if step.action is Action.RENEW:
            assert keeper.lease is not None
            assert keeper.lease.expires is not None
            assert now < keeper.lease.expires
        if step.action in (Action.ACQUIRE, Action.RENEW):
            assert step.at is not None
            assert now <= step.at <= now + 75
            if outcome == "fail":
                keeper.failed("away", now)
            elif outcome == "lost" and step.action is Action.RENEW:
                keeper.revoked("refused")
            else:
                keeper.granted(replace(LEASE, expires=now + DAY), now)
        elif step.action is Action.STOP:
            assert keeper.state is State.LOST
            assert keeper.reason
            keeper.restarted()
        else:
            assert step.at is not None
            assert step.at > now
            seen = {"stranger": STRANGERS, "gone": None}.get(outcome, keeper.lease)
            keeper.observed(seen, now)
            assert keeper.state is (State.LOST if outcome in ("stranger", "gone") else State.HELD)
