"""The limit on ICMP errors. What is answered and how is told by the golden packets."""

from dataplane.packets.icmp import N_SOURCES, ErrorLimit, TokenBucket, hash_source
from dataplane.packets.verdicts import Verdict

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


def test_memory_stays_the_same_however_many_sources_there_are() -> None:
    limit = ErrorLimit(rate=1000, burst=50)
    for number in range(3 * N_SOURCES):
        limit.take(Verdict.NO_ROUTE, number.to_bytes(16), SECOND_NS)
    assert len(limit._sources) <= N_SOURCES


def test_the_pods_of_a_node_are_spread_over_the_buckets() -> None:
    pods = [hash_source(bytes(10) + b"\xff\xff" + bytes([10, 5, 1, pod]), False) for pod in range(2, 112)]
    assert len(set(pods)) > 0.9 * len(pods)
