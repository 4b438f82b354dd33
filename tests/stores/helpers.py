"""What the tests of all stores share."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from dataplane.lease import LeaseAttrs, Subnets
from dataplane.stores.base import AcquireRequest, WatchUpdate

SECONDS = 10.0
"""How long a test waits for something that should come at once."""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, for no longer than a test may last."""
    asyncio.run(asyncio.wait_for(coroutine, 60))


def request(host: int, previous: str | None = None) -> AcquireRequest:
    """The request of the node with public address 192.168.0.`host`."""
    subnets = Subnets(IPv4Network(previous)) if previous else None
    return AcquireRequest(LeaseAttrs(IPv4Address("192.168.0.0") + host), subnets)


async def until(watch: AsyncGenerator[WatchUpdate, None], wanted: Callable[[WatchUpdate], bool]) -> WatchUpdate:
    """The next update of `watch` that is `wanted`; fails if it does not come."""
    async with asyncio.timeout(SECONDS):
        async for update in watch:
            if wanted(update):
                return update
    raise AssertionError("the watch ended")
