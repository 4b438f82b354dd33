"""What asyncio leaves to its users: calls that block, and tasks of which none may fail unnoticed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function that blocks. If this is cancelled, wait for its end: it must not work on behind our back."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


async def first_failure(*work: Coroutine[Any, Any, None]) -> None:
    """Run everything at once until one fails or this is cancelled; then cancel the rest and wait for it.

    Raises what the first one raised, itself and not a group of exceptions as a TaskGroup would.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
