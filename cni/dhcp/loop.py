"""The daemon's event loop: callbacks for sockets that are readable, and a clock that counts sleep as time."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Protocol

_LONGEST_WAIT = 3600.0  # the kernel's timeout does not run while the machine sleeps, so look at the clock now and then


class Readable(Protocol):
    """Something with a file descriptor."""

    def fileno(self) -> int:
        """The descriptor to wait for."""


class Loop:
    """Waits for any of the registered sockets."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    @staticmethod
    def now() -> float:
        """Seconds since boot, time asleep included (CLOCK_BOOTTIME)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def add(self, source: Readable, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the source is readable."""
        self._selector.register(source.fileno(), selectors.EVENT_READ, callback)

    def remove(self, source: Readable) -> None:
        """Stop listening; to be called before the source is closed."""
        self._selector.unregister(source.fileno())

    def wait(self, deadline: float) -> None:
        """Wait until the deadline (or for an hour) at most and run the callbacks of what is readable."""
        timeout = min(max(deadline - self.now(), 0.0), _LONGEST_WAIT)
        for key, _ in self._selector.select(timeout):
            if key.fd in self._selector.get_map():  # an earlier callback may have removed it
                key.data()

    def close(self) -> None:
        """Let go of every source."""
        self._selector.close()
