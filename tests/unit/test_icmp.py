"""The limit on ICMP errors. What is answered and how is told by the golden packets."""

from dataplane.icmp import TokenBucket

SECOND_NS = 10**9


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(SECOND_NS // 10 - 1)
    assert bucket.take(SECOND_NS // 10)
    assert not bucket.take(SECOND_NS // 10)


def test_a_long_silence_saves_up_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=1000, burst=2)
    assert [bucket.take(3600 * SECOND_NS) for _ in range(3)] == [True, True, False]


def test_a_clock_that_lags_gives_nothing_away() -> None:
    bucket = TokenBucket(rate=10, burst=1)
    assert bucket.take(SECOND_NS)
    for lag in range(0, SECOND_NS, SECOND_NS // 100):
        assert not bucket.take(SECOND_NS - lag)
        assert not bucket.take(SECOND_NS)


def test_over_a_minute_the_rate_is_kept() -> None:
    bucket = TokenBucket(rate=7, burst=4)
    taken = sum(bucket.take(ms * 1_000_000) for ms in range(60_000))
    assert taken == 4 + 7 * 60 - 1  # the last one is due just when the minute is over


def test_none_at_all() -> None:
    assert not TokenBucket(rate=0, burst=50).take(SECOND_NS)
    assert not TokenBucket(rate=50, burst=0).take(SECOND_NS)
