"""The list of wishes: what is put back, what is said of it, and how often."""

import logging

import pytest

from dataplane.errors import NodeError
from dataplane.kernel.leftovers import NOTHING
from dataplane.kernel.wishes import QUIET_SECONDS, WishedState


class Thing:
    """A wish that others break; `refused` is why it cannot be put back."""

    what = "the thing"
    vital = True
    leftovers = NOTHING

    def __init__(self) -> None:
        self.broken, self.refused = False, ""

    def difference(self) -> str:
        return "was gone" if self.broken else ""

    def fulfil(self) -> None:
        if self.refused:
            raise NodeError(self.refused)
        self.broken = False


class Clock:
    """Time that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_fight_is_said_once_a_minute_with_how_often(caplog: pytest.LogCaptureFixture) -> None:
    thing, clock = Thing(), Clock()
    wished = WishedState([thing], clock)
    for _ in range(2 * int(QUIET_SECONDS)):
        thing.broken = True
        assert wished.look_after() == 1
        clock.now += 1
    assert wished.repairs() == {"the thing": 2 * QUIET_SECONDS}
    first, second = (record.message for record in caplog.records)
    assert "somebody changed the host: the thing was gone; put back" in first
    assert "60 times since this was said last" in second


def test_a_trouble_that_comes_and_goes_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    thing, clock = Thing(), Clock()
    wished = WishedState([thing], clock)
    for second in range(2 * int(QUIET_SECONDS)):
        thing.broken, thing.refused = True, "no room" if second % 2 else ""
        wished.look_after()
        assert wished.troubles() == (["no room"] if second % 2 else [])
        clock.now += 1
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["no room", "no room"]


def test_another_trouble_of_the_same_thing_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    thing = Thing()
    wished = WishedState([thing], Clock())
    thing.broken = True
    for thing.refused in ("no room", "not allowed"):
        wished.look_after()
    assert [record.message for record in caplog.records] == ["no room", "not allowed"]
