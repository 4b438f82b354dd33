"""The clock that deadlines go by: it counts on while the machine sleeps, and nobody can set it.

The time of day is for people to read. It is stepped by NTP, by operators and by virtual machines that wake up, and a
lease must not run out, or live longer than others believe, because of that.
"""

import time
from functools import cache
from pathlib import Path


def now() -> float:
    """Seconds since the machine started, the time that it slept included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def time_of_day(moment: float) -> float:
    """A `moment` of this clock in unix seconds, as the time of day is set now."""
    return time.time() + moment - now()


@cache
def boot_id() -> str:
    """What tells this start of the machine from all others; empty if it cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
