"""Threads and tasks that nobody loses sight of."""

import asyncio
import threading

import pytest

from dataplane.concurrency import first_failure, in_thread


def test_a_blocking_call_gives_its_result() -> None:
    assert asyncio.run(in_thread(lambda a, b: a + b, 1, 2)) == 3


def test_a_cancelled_call_is_waited_for() -> None:
    started, go, ended = threading.Event(), threading.Event(), []

    def block() -> None:
        started.set()
        assert go.wait(10)
        ended.append(True)

    async def run() -> None:
        call = asyncio.create_task(in_thread(block))
        await asyncio.to_thread(started.wait, 10)
        call.cancel()
        asyncio.get_running_loop().call_later(0.01, go.set)
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended

    asyncio.run(run())


def test_the_first_failure_ends_the_others() -> None:
    cancelled: list[bool] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def failing() -> None:
        raise OSError("this one")

    with pytest.raises(OSError, match="this one"):
        asyncio.run(first_failure(endless(), failing(), endless()))
    assert cancelled == [True, True]
