"""A node that root has started holds what its flags need and nothing else, and so does what it starts."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.topology import Lab
from dataplane.node.privileges import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_NICE

NEEDED = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_NET_BIND_SERVICE


@pytest.fixture(params=["python", "native"])
def node(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), engine=request.param) as overlay:
        node = overlay.start(lab.add_node())
        node.wait_until_ready()
        yield node


def status_of(task: Path) -> dict[str, str]:
    lines = (task / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_every_thread_is_shut_in(node: Daemon) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to give up")
    engine = node.status()["backend"]["engine"]
    kept = NEEDED | (1 << CAP_SYS_NICE if engine == "native" else 0)
    tasks = []
    for thread in Path(f"/proc/{node.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            tasks.append(status_of(thread))
    assert len(tasks) > 1
    for task in tasks:
        for field in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
            assert int(task[field], 16) & ~kept == 0, (task["Name"], field, task[field])
        assert task["NoNewPrivs"] == "1"
    assert any(int(task["CapEff"], 16) & NEEDED == NEEDED for task in tasks)
