"""What commands share that ask a store."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dataplane.flags import add_flags, read_flags
from dataplane.stores.base import Store, StoreOptions
from dataplane.stores.registry import open_store

_Answer = TypeVar("_Answer")


def add_store_flags(parser: argparse.ArgumentParser) -> None:
    """How to talk to a store, whichever it is."""
    add_flags(parser, StoreOptions)


def read_store_flags(namespace: argparse.Namespace) -> StoreOptions:
    """What the flags of `add_store_flags` say."""
    return read_flags(namespace, os.environ, StoreOptions)


def ask_store(url: str, options: StoreOptions, question: Callable[[Store], Awaitable[_Answer]]) -> _Answer:
    """What `question` gets from the store at `url`."""

    async def ask() -> _Answer:
        store = open_store(url, options)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(ask())
