"""Watching a store that cannot call back: ask it often, report what is new."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from dataplane.errors import ConfigError, StoreError
from dataplane.stores.base import Outage, Snapshot, WatchUpdate

POLL_SECONDS = 0.25


async def watch_by_polling(poll: Callable[[], Snapshot | None]) -> AsyncGenerator[WatchUpdate, None]:
    """Yield what `poll` returns whenever it differs from the last update, asking four times a second.

    `poll` runs in a thread, so it may wait for a lock. It returns None for "nothing can have changed", which
    should be cheap, and must return a snapshot on the first call after it raised. What it raises is yielded
    as an `Outage`, once for each text.
    """
    reported: Snapshot | str | None = None
    while True:
        try:
            snapshot = await asyncio.to_thread(poll)
        except (StoreError, ConfigError) as error:
            if str(error) != reported:
                reported = str(error)
                yield Outage(error)
        else:
            if snapshot is not None and snapshot != reported:
                reported = snapshot
                yield snapshot
        await asyncio.sleep(POLL_SECONDS)
