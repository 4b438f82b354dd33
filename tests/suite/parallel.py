"""The suite in several processes at once, a pytest plugin: `pytest -p tests.suite.parallel --dist=loadscope -n auto`.

    controller --- units ---> gw0      a network, a mount table and a /run of its own
               \\-- units ---> gw1      the same

A unit is what stays together in one process: the tests of a file, whose fixtures are dear, or a single test in those
files that take the longest (DIVIDED). The dearest come first, so that all processes are busy until the end.

Tests with the mark `alone` are one last unit, which begins when every other process has ended.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import execnet
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from dataplane.lab import private

ALONE = "alone"
"""The mark, and the name of the unit."""

LAST = (
    "tests/cni/differential/test_differential.py::test_every_intended_difference_still_occurs",
    "tests/cni/differential/test_old_release.py::test_every_difference_of_old_releases_still_occurs",
)
"""The tests with the mark: the controller, which hands out the units, collects none and sees no marks."""

DIVIDED = (
    "tests/cni/faults/",
    "tests/cni/differential/test_differential.py",
    "tests/cni/differential/test_mixed.py",
    "tests/lab/test_exercises.py",
)
"""Where each test is a unit: a process that goes on in the same file keeps the file's fixtures."""

FIRST = ("tests/native/", "tests/chaos/", "tests/cni/sequences/", *DIVIDED, "tests/cni/", "tests/")
"""Which units come first: a list of where they are, each place after those that it contains."""

OWN_NAMESPACES = ["env", f"{private.STATE}={private.ENTERING}", "unshare", "--net", "--mount", "--"]
"""In front of an interpreter: the namespaces that `private` settles in, from within others that it has made."""


MOST_PROCESSES = 8
"""More would wait for one another: each keeps several programs busy."""


def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one more than processors, since there is always a test that waits."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_PROCESSES)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out units in the order of their first tests."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid in LAST:
            return ALONE
        return nodeid if nodeid.startswith(DIVIDED) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Called in the controller."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


HOST = "UDPLANE_SUITE_HOST"
"""Environment variable: a program that makes each of those namespaces a certain host, then becomes its arguments."""


def pytest_xdist_setupnodes(specs: Sequence[execnet.XSpec]) -> None:
    """Start each process in namespaces of its own, where this one has some."""
    if private.inside():
        host = [os.environ[HOST]] if HOST in os.environ else []
        command = [*OWN_NAMESPACES, sys.executable, "-I", "-m", private.MODULE, *host, sys.executable]
        for spec in specs:
            spec.python = shlex.join(command)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Order the units after anybody else has."""
    yield
    unknown = [item.nodeid for item in items if item.get_closest_marker(ALONE) and item.nodeid not in LAST]
    if unknown:
        raise pytest.UsageError(f"name in LAST of tests/suite/parallel.py what has the mark {ALONE}: {unknown}")
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker(ALONE):
        return len(FIRST)
    return next(turn for turn, place in enumerate(FIRST) if item.nodeid.startswith(place))


@pytest.fixture(scope="session")
def busy(run_directory: Path) -> Iterator[int]:
    """A lock that every process shares until it ends."""
    descriptor = os.open(run_directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def wait_for_others(request: pytest.FixtureRequest, busy: int) -> None:
    """Before a test that has to be alone, wait until the other processes have ended."""
    if request.node.get_closest_marker(ALONE):
        fcntl.flock(busy, fcntl.LOCK_EX)
