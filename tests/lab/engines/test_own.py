"""Somebody's own engine on a real node, and the python engine stopped at its steps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataplane.engines.contract import EngineConfig
from dataplane.engines.own import INSIDE, OwnEngine
from dataplane.engines.registry import load_engine
from dataplane.errors import ConfigError
from dataplane.lab import stepping
from dataplane.lab.overlay import Overlay, wait_until
from dataplane.lab.overlay_view import view_of
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from dataplane.lab.walking.recorder import Ask, record
from dataplane.packets.batch import PacketBatch
from dataplane.packets.verdicts import Verdict

RIGHT = Path(__file__).with_name("right.py").read_text()
CONFIG = EngineConfig(None, None, 1472)


@contextmanager
def overlay_with(engine: Path, directory: Path) -> Iterator[tuple[Lab, Overlay]]:
    with Lab() as lab, Overlay(lab, directory, engine=str(engine)) as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        yield lab, overlay


def test_edit_and_send_is_the_whole_cycle(tun_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSIDE, "test")
    file = tmp_path / "mine.py"
    file.write_text(RIGHT)
    file.chmod(0o644)
    with overlay_with(file, tmp_path / "lab") as (lab, overlay):
        pod, peer = (node.pods[0] for node in lab.nodes)
        for version in (4, 6):
            (reply,) = ping(pod.netns, peer.address(version))
            assert reply is not None
            assert (reply.echoed, reply.ttl) == (True, 60)
        file.write_text(RIGHT.replace("reason = self.header(packet)", "reason = packet[9999]", 1))
        (walk,) = record(view_of(lab, overlay, engine=str(file)), Ask("pod1", "pod2", timeout=0.3)).walks
        assert (walk.outcome.verdict, walk.outcome.where, walk.outcome.place) == ("own_engine", "node1", "engine")
        log = overlay.daemons[0].log
        wait_until(lambda: "mine.py:10: encapsulate: IndexError: index out of range" in log.read_text(), "the log")
        file.write_text(RIGHT)
        (reply,) = ping(pod.netns, peer.address(4))
        assert reply is not None


def test_a_stepper_holds_the_node_and_lets_it_go(
    tun_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSIDE, "test")
    with overlay_with(Path(stepping.__file__), tmp_path) as (lab, overlay):
        pod, peer = (node.pods[0] for node in lab.nodes)
        assert ping(pod.netns, peer.address(4))[0] is not None
        with stepping.connect(overlay.daemons[0].directory / "run") as stepper, stepper.makefile("r") as lines:
            assert ping(pod.netns, peer.address(4), timeout=0.2) == [None]
            steps: list[str] = []
            while not steps or steps[-1] not in ("send", "refuse"):
                steps.append(json.loads(lines.readline())["step"])
                if steps[-1] != "send":
                    stepper.sendall(b"step\n")
        assert steps[-7:] == ["read", "header", "lookup", "ttl", "mtu", "lower", "send"]
        wait_until(lambda: ping(pod.netns, peer.address(4), timeout=0.5)[0] is not None, "the node to go on")


def test_a_node_ends_while_a_stepper_holds_a_packet(
    tun_device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSIDE, "test")
    with overlay_with(Path(stepping.__file__), tmp_path) as (lab, overlay):
        pod, peer = (node.pods[0] for node in lab.nodes)
        process = overlay.daemons[0].process
        with stepping.connect(overlay.daemons[0].directory / "run") as stepper, stepper.makefile("r") as lines:
            assert ping(pod.netns, peer.address(4), timeout=0.2) == [None]
            assert json.loads(lines.readline())["step"] == "read"
            process.terminate()
            assert process.wait(timeout=60) == 0  # `PATIENCE` is ten times as long
            assert lines.readline() == ""


def test_an_engine_that_is_interrupted_is_asked_no_more(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "class Engine:\n    def encapsulate(self, *_):\n        while True: pass\n    decapsulate = encapsulate\n"
    )
    engine, batch = OwnEngine(CONFIG, file), PacketBatch(8, 100)
    for _ in range(8):
        batch.append(bytes(20))
    engine.interrupt()
    engine.encapsulate(batch, 0)  # eight seconds otherwise
    assert [Verdict(batch.verdict[i]) for i in range(8)] == [Verdict.SEND_FAILED] * 8


def test_an_engine_from_a_file_is_for_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RIGHT)
    monkeypatch.delenv(INSIDE, raising=False)
    with pytest.raises(ConfigError, match="is for labs: udplane lab up --engine"):
        load_engine(str(file), CONFIG)
    monkeypatch.setenv(INSIDE, "test")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="anybody may write"):
        load_engine(str(file), CONFIG)
    with pytest.raises(ConfigError, match="No such file"):
        load_engine(str(tmp_path / "other.py"), CONFIG)
