"""A bad day in little time: what can go wrong on five nodes goes wrong, by chance that can be repeated.

After each round all pods talk, counters add up, nothing has leaked, and no two nodes own a subnet. A short run is part
of the suite; a longer one, or a certain one again:

    UDPLANE_CHAOS_SECONDS=900 ./dev test tests/chaos
    UDPLANE_CHAOS_SEED=12345 ./dev test tests/chaos

A longer run has its leases in etcd, if that is installed, where the seed is odd.
"""

import os
import random
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.errors import NodeError
from tests.chaos import mischief, shim
from tests.chaos.site import Site

SECONDS = float(os.environ.get("UDPLANE_CHAOS_SECONDS", "20"))
IS_LONG = SECONDS > 60
SEED = int(os.environ.get("UDPLANE_CHAOS_SEED", random.SystemRandom().randrange(10**6) if IS_LONG else 2))
LONGEST_MISCHIEF_SECONDS = 3.0


def test_a_bad_day(namespaces: None, tun_device: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, rounds = random.Random(SEED), []
    with_etcd = IS_LONG and SEED % 2 == 1 and shutil.which("etcd") is not None
    with Site(tmp_path, shim.build(tmp_path), with_etcd=with_etcd) as site, site.traffic():
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            chosen = rng.sample(mischief.ALL, rng.choice([1, 1, 2, 3]))
            rounds.append(" + ".join(one.__name__ for one in chosen))
            try:
                play(site, rng, chosen)
            except (AssertionError, NodeError) as error:
                ended = [daemon.process.poll() for daemon in site.daemons]
                where = f"seed {SEED}, round {len(rounds)} ({rounds[-1]}), exit statuses {ended}"
                raise AssertionError(f"{where}: {error}") from error
    with capsys.disabled():
        print(f"\n{len(rounds)} rounds of mischief with UDPLANE_CHAOS_SEED={SEED}")


def play(site: Site, rng: random.Random, chosen: list[mischief.Mischief]) -> None:
    """One round: all of it at once for a while, then time to recover."""
    with ExitStack() as at_work:
        for one in chosen:
            at_work.enter_context(one(site, rng))
        site.supervise(rng.uniform(0.1, LONGEST_MISCHIEF_SECONDS))
    site.settle()
    site.check()
