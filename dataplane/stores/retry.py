"""The pauses between attempts to watch a store."""

import asyncio

FIRST_SECONDS = 0.1
LAST_SECONDS = 5.0


class Retry:
    """Pauses that double from `FIRST_SECONDS` to `LAST_SECONDS`, and begin anew after an attempt that did some good.

    That is one that `worked`, or that lasted for longer than the longest pause: a quiet store has nothing to report.
    """

    def __init__(self) -> None:
        self._delay = FIRST_SECONDS
        self._began = asyncio.get_running_loop().time()

    def worked(self) -> None:
        """The attempt has brought something."""
        self._delay = FIRST_SECONDS

    async def pause(self) -> None:
        """The attempt has ended; return when it is time for the next."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._began >= LAST_SECONDS:
            self._delay = FIRST_SECONDS
        await asyncio.sleep(self._delay)
        self._delay = min(self._delay * 2, LAST_SECONDS)
        self._began = loop.time()
