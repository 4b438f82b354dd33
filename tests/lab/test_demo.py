"""The demo as a user runs it: a process of its own, in private namespaces."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP
from scapy.utils import rdpcap

from dataplane.lab import demo, private
from dataplane.lab.netns import LabError
from dataplane.lab.overlay import Overlay, wait_until
from dataplane.lab.topology import Lab

DEMO = [sys.executable, "-I", "-m", demo.MODULE]
OUTSIDE = {key: value for key, value in os.environ.items() if key != private.STATE}


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started, and theirs."""
    children = {
        int(child) for file in Path("/proc").glob(f"{pid}/task/*/children") for child in file.read_text().split()
    }
    return children.union(*(descendants(child) for child in children))


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


@contextmanager
def running_demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*DEMO, *arguments],
        env=OUTSIDE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process prints up to the line with `text` in it."""
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([process.stdout], [], [], 30)
        line = process.stdout.readline() if ready else ""
        assert line, f"no {text!r} in:\n{seen}"
        seen += line
    return seen


def of_a_demo() -> set[str]:
    """The processes of any demo, whoever their parent is by now."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if b"/udplane-demo/" in path.read_bytes():
                found.add(path.parent.name)
    return found


@pytest.mark.parametrize("engine", ["python", "native"])
def test_the_demo_shows_everything_and_leaves_a_capture(tun_device: None, tmp_path: Path, engine: str) -> None:
    pcap = tmp_path / "demo.pcapng"
    before = of_a_demo()
    done = subprocess.run(
        [*DEMO, "--engine", engine, "--pcap", str(pcap)],
        env=OUTSIDE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"3 of 3 answers, ttl 60", done.stdout)) == 4
    assert "not seen" not in done.stdout
    for ttl_step in ("64 → 63", "63 → 62", "62 → 61", "61 → 60"):
        assert f"ttl {ttl_step}" in done.stdout
    assert len(re.findall(r"IPv[46]  pod1 → pod3  [0-9.]+ Gb/s", done.stdout)) == 2
    assert done.stdout.count("udplane status") == 2
    assert [line for line in done.stdout.splitlines() if len(line) > 100 and str(pcap) not in line] == []
    assert any(ICMP in packet for packet in rdpcap(str(pcap)))
    wait_until(lambda: of_a_demo() <= before, "the demo's last process to end")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tun_device: None, tmp_path: Path, number: signal.Signals) -> None:
    pcap = str(tmp_path / "demo.pcapng")
    with running_demo("--engine", "python", "--pcap", pcap) as process:
        read_until(process, "Pings through")
        wait_until(lambda: len(descendants(process.pid)) >= 3, "two daemons and a capture")
        family = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()
    wait_until(lambda: alive(family) == set(), "all that the demo has started to end")


def test_a_killed_demo_leaves_nothing(tun_device: None, tmp_path: Path) -> None:
    pcap = str(tmp_path / "demo.pcapng")
    with running_demo("--engine", "python", "--pcap", pcap) as process:
        read_until(process, "Pings through")
        wait_until(lambda: len(descendants(process.pid)) >= 3, "two daemons and a capture")
        family = descendants(process.pid)
        process.kill()
        process.wait(30)
    wait_until(lambda: alive(family) == set(), "the kernel to end the daemons")


def test_a_kept_demo_can_be_entered_and_taken_down(tun_device: None, tmp_path: Path) -> None:
    pcap = str(tmp_path / "demo.pcapng")
    with running_demo("--engine", "python", "--keep", "--pcap", pcap) as process:
        shown = read_until(process, "take it all down")
        assert process.wait(30) == 0
    (holder,) = re.findall(r"take it all down +kill (\d+)", shown)
    family = {int(holder)} | descendants(int(holder))
    try:
        (enter,) = re.findall(r"a shell in a pod +(nsenter .*) bash", shown)
        inside = subprocess.run([*enter.split(), "ip", "-brief", "address"], capture_output=True, text=True, check=True)
        assert "eth0" in inside.stdout
    finally:
        os.kill(int(holder), signal.SIGTERM)
    wait_until(lambda: alive(family) == set(), "the demo to end")


def test_a_capture_file_that_cannot_be_written_is_one_line(tun_device: None, tmp_path: Path) -> None:
    pcap = tmp_path / "missing" / "demo.pcapng"
    command = [*DEMO, "--engine", "python", "--pcap", str(pcap)]
    done = subprocess.run(command, env=OUTSIDE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(pcap) in line


def test_a_node_that_dies_is_shown_with_its_last_words(tun_device: None, tmp_path: Path) -> None:
    pcap = tmp_path / "demo.pcapng"
    with running_demo("--engine", "python", "--pcap", str(pcap)) as process:
        read_until(process, "Pings through")
        family = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in sorted(descendants(process.pid))}
        node = next(pid for pid, command in family.items() if b"\0up\0" in command and b"/node2/run" in command)
        os.kill(node, signal.SIGSEGV)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(30) == 1
    log = tmp_path / "demo.logs" / "node2.log"
    assert f"udplane on node2 was ended by SIGSEGV. The last it said, all of it in {log}:" in rest
    assert f"  {log.read_text().splitlines()[-1]}" in rest
    assert "udplane on node1" not in rest


def test_a_node_that_dies_at_its_start_is_shown_with_its_last_words(tun_device: None, tmp_path: Path) -> None:
    with (
        Lab() as lab,
        pytest.raises(LabError) as raised,
        Overlay(lab, tmp_path, flags=["--public-ip=nobody"]) as overlay,
    ):
        lab.add_node()
        overlay.up()
    (note,) = raised.value.__notes__
    log = overlay.directory / lab.nodes[0].name / "log"
    assert re.search(rf"ended with status [12]. The last it said, all of it in {log}:\n.*  .*nobody", note, re.DOTALL)


def test_the_network_of_ones_own_in_the_documents_works(tun_device: None, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "development.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(example)
    command = [sys.executable, "-I", "-m", private.MODULE, sys.executable, "-I", str(script)]
    done = subprocess.run(command, env=OUTSIDE, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "echoed=True" in done.stdout
