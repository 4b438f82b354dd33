"""When workers run before other programs: with super-packets, as long as these come; not with each small packet.

Small packets become long runs on their way, so only the node that they set out from has to deal with each of them.
"""

import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from dataplane.lab.ping import ping
from dataplane.lab.transfer import transfer
from tests.offloads.conftest import ALL_ON, Pair, Start
from tests.waiting import wait_until

SECONDS = 1.0
N_DATAGRAMS = 30_000
SIZE = 64


def is_realtime(pair: Pair, node: int) -> bool:
    """Whether a thread of the node's daemon is real-time at this moment."""
    policies = set()
    for thread in Path(f"/proc/{pair.daemons[node].process.pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            policies.add(os.sched_getscheduler(int(thread.name)) & ~os.SCHED_RESET_ON_FORK)
    return os.SCHED_RR in policies


def is_ordinary(pair: Pair, node: int) -> bool:
    """The opposite, after a packet: a worker that has nothing to do does not think about it."""
    first, second = pair.pods
    assert all(ping(first.netns, second.address(4), count=1))
    return not is_realtime(pair, node)


def require_realtime(pair: Pair) -> None:
    wait_until(lambda: "no worker" not in pair.features(0)["realtime"], "a worker has started")
    state = pair.features(0)["realtime"]
    if state != "on":
        pytest.skip(f"realtime is {state}: run as root, outside of a user namespace")


@pytest.mark.parametrize("flags", [ALL_ON, (*ALL_ON, "--busy-poll", "3000")], ids=["sleeping", "busily polling"])
def test_busy_with_super_packets(start: Start, flags: tuple[str, ...]) -> None:
    with start(*flags) as pair, ThreadPoolExecutor(1) as pool:
        require_realtime(pair)
        first, second = pair.pods
        running = pool.submit(transfer, first.netns, second.netns, second.address(4), seconds=SECONDS)
        for node in (0, 1):
            wait_until(partial(is_realtime, pair, node), f"node{node + 1} is real-time")
        assert running.result().n_bytes > 0
        for node in (0, 1):
            wait_until(partial(is_ordinary, pair, node), f"node{node + 1} is an ordinary program again")


def test_not_in_a_flood_of_small_packets(pair: Pair) -> None:
    require_realtime(pair)
    first, second = pair.pods
    wait_until(partial(is_ordinary, pair, 0), "what was before is over")
    with first.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as source, ThreadPoolExecutor(1) as pool:
        source.connect((str(second.address(4)), 9))
        before = pair.packets(1, "decap")
        sending = pool.submit(send_flood, source)
        while not sending.done():
            assert not is_realtime(pair, 0)
        sending.result()
        wait_until(lambda: pair.packets(1, "decap") > before + N_DATAGRAMS // 10, "the flood has come through")


def send_flood(source: socket.socket) -> None:
    """Send datagrams as fast as they go; that nobody listens is no reason to stop."""
    datagram = bytes(SIZE)
    for _ in range(N_DATAGRAMS):
        try:
            source.send(datagram)
        except ConnectionRefusedError:
            continue
