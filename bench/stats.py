"""Numbers of several rounds: a median and its spread, and ratios that are formed within a round.

The machine's speed changes from minute to minute. Paths are measured in turn in every round, so a ratio of two
measurements of one round says more than a ratio of two medians.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the least and the greatest value that went into it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


def ratio(values: Sequence[float | None], base: Sequence[float | None]) -> Spread | None:
    """`values` over `base`, round by round; rounds in which either is missing or the base is 0 do not count."""
    quotients = [v / b for v, b in zip(values, base, strict=True) if v is not None and b]
    return Spread.of(quotients) if quotients else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
