"""What the tests of all stores share."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

from dataplane.errors import StoreError
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.stores.base import AcquireRequest, Store, WatchUpdate

T = TypeVar("T")

SECONDS = 10.0
"""How long a test waits for something that should come at once."""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine, for no longer than a test may last."""
    asyncio.run(asyncio.wait_for(coroutine, 60))


def request(host: int, previous: str | None = None) -> AcquireRequest:
    """The request of the node with public address 192.168.0.`host`."""
    subnets = Subnets(IPv4Network(previous)) if previous else None
    return AcquireRequest(LeaseAttrs(IPv4Address("192.168.0.0") + host), subnets)


@contextlib.asynccontextmanager
async def watching(store: Store) -> AsyncIterator[Callable[[Callable[[WatchUpdate], bool]], Awaitable[WatchUpdate]]]:
    """Watch `store`; gives a function that waits for an update that is wanted."""
    async with contextlib.aclosing(store.watch()) as watch:
        yield lambda wanted: until(watch, wanted)


def once_up(call: Callable[[], T]) -> T:
    """What `call` returns when the store that it asks has started: trouble that can pass is tried again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return call()
        except StoreError as error:
            if not error.transient or time.monotonic() > deadline:
                raise


async def list_once(store: Store) -> list[Lease]:
    """The leases of a store that is closed then."""
    try:
        return await store.leases()
    finally:
        await store.close()


async def until(watch: AsyncGenerator[WatchUpdate, None], wanted: Callable[[WatchUpdate], bool]) -> WatchUpdate:
    """The next update of `watch` that is `wanted`; fails if it does not come."""
    async with asyncio.timeout(SECONDS):
        async for update in watch:
            if wanted(update):
                return update
    raise AssertionError("the watch ended")
