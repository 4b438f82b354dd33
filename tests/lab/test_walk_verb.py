"""Walks and what belongs to them as an ordinary user calls them: the command line, through the keeper of a lab.

Where root runs the tests, that user is nobody, in a user namespace. The nodes have the python engine, to be stepped.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab import recording_file
from dataplane.lab.recording import FORMAT
from tests.lab.labs import Labs, labs, of_ordinary_user

PCAPNG_MAGIC = bytes.fromhex("0a0d0d0a")


@pytest.fixture(scope="module")
def standing(tun_device: None) -> Iterator[Labs]:
    with labs() as mine:
        try:
            lab = of_ordinary_user(mine)
        except pytest.skip.Exception:
            lab = mine
        lab.run("up", "--step")
        try:
            yield lab
        finally:
            lab.run("down", "--all")


@pytest.fixture
def home(standing: Labs) -> Path:
    """A directory of that user's."""
    return standing.directory.parent


def put(home: Path, name: str, content: str | bytes) -> str:
    """A file of that user's."""
    file = home / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    shutil.chown(file, home.stat().st_uid, home.stat().st_gid)
    file.chmod(0o644)
    return str(file)


def test_one_recording_is_text_lines_a_capture_and_a_page(standing: Labs, home: Path) -> None:
    files = {name: home / f"walk.{name}" for name in ("json", "pcapng", "html")}
    ways = ["--save", files["json"], "--pcap", files["pcapng"], "--html", files["html"]]
    text = standing.run("walk", "pod1", "pod4", *map(str, ways)).stdout
    assert "Answered after" in text
    recording = recording_file.load(files["json"])
    (walk,) = recording.walks
    assert (walk.outcome.kind, walk.steps[-1].where) == ("answered", "pod1")
    assert files["pcapng"].read_bytes().startswith(PCAPNG_MAGIC)
    assert FORMAT in files["html"].read_text()
    assert standing.run("walk", "--replay", str(files["json"])).stdout == text
    again = standing.run("walk", "--replay", str(files["json"]), "--json", "--pcap", str(files["pcapng"])).stdout
    assert again.splitlines() == list(recording.lines())
    kept = standing.directory / "default" / "walks"
    newest = max(kept.glob("*.json"), key=lambda file: int(file.stem))
    assert recording_file.load(newest) == recording


def test_lines_begin_with_what_stands_and_end_with_the_outcome(standing: Labs) -> None:
    lines = standing.run("walk", "pod1", "pod3", "--proto", "tcp", "--size", "3000", "--json").stdout.splitlines()
    head, *_, last = map(json.loads, lines)
    assert (head["format"], [node["name"] for node in head["lab"]["nodes"]]) == (FORMAT, ["node1", "node2"])
    assert last["outcome"]["kind"] == "answered"
    steps = [json.loads(line)["step"] for line in lines if line.startswith('{"step"')]
    assert {step["at"]["where"] for step in steps} == {"pod1", "node1", "underlay", "node2", "pod3"}


def test_a_scapy_expression_is_followed(standing: Labs, home: Path) -> None:
    file = put(home, "x.py", 'IP(dst="pod4", ttl=2)/UDP(sport=7, dport=9)/"hello"\n')
    text = standing.run("walk", "pod1", "pod4", "--from-file", file).stdout
    assert "ttl_exceeded" in text
    assert "An ICMP error about it" in text


def test_the_wire_is_a_place_too(standing: Labs) -> None:
    text = standing.run("walk", "node2", "underlay", "--brief").stdout
    assert "Answered after" in text
    assert "has as a gateway" in " ".join(text.split())


def test_steps_are_shown_while_packets_pass(standing: Labs) -> None:
    stepper = standing.start("step", "node1", "--continue", "--packets", "1")
    assert stepper.stdout is not None
    assert "stops at its next packet" in stepper.stdout.readline()
    standing.run("walk", "pod1", "pod4", "--brief")
    shown, _ = stepper.communicate(timeout=60)
    assert stepper.returncode == 0
    for words in ("read: 84 bytes", "ttl: 63 is above 1", "TTL 63 becomes 62"):
        assert words in shown


def test_a_packet_is_sent_and_captured(standing: Labs, home: Path) -> None:
    file = home / "node2.pcapng"
    capture = standing.start("capture", "node2", "udplane0", "-w", str(file), "--count", "1")
    assert capture.stderr is not None
    capture.stderr.readline()
    assert "forwarded" in standing.run("inject", "pod1", 'IP(dst="pod4")/UDP(dport=9)/"hello"').stdout
    capture.communicate(timeout=60)
    assert b"hello" in file.read_bytes()


def test_an_exercise_is_begun_and_checked(standing: Labs, home: Path) -> None:
    standing.run("start", "3", "--lab", "three", "--work", str(home))
    try:
        done = standing.run("check", "--lab", "three", "--step", "1", "--answer", "ttl=62", status=1)
        assert "Two kernels route it" in done.stdout
        standing.run("check", "--lab", "three", "--step", "1", "--answer", "ttl=60")
    finally:
        standing.run("down", "--lab", "three")


def test_an_engine_is_begun_and_judged(standing: Labs, home: Path) -> None:
    file = home / "mine.py"
    standing.run("golden", "--template", str(file))
    judged = json.loads(standing.run("golden", str(file), "--json", status=1).stdout)
    assert not all(result["passed"] for result in judged)


ENGINE = "class Engine:\n    def encapsulate(self, packet, node):\n        {}\n    decapsulate = encapsulate\n"
HOSTILE = [
    (["walk", "--replay", "FILE"], b"\xff\xfe", "is no UTF-8"),
    (["walk", "--replay", "FILE"], b"{}", "no text"),
    (["walk", "--replay", "/dev/zero"], b"", "bytes are no recording"),
    (["walk", "--replay", "/"], b"", "Is a directory"),
    (["walk", "--replay", "/nowhere"], b"", "No such file"),
    (["walk", "pod1", "--replay", "FILE"], b"", "leave FROM and TO out"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"\xff", "is no UTF-8"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"IP(", "cannot be read at character"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"(" * 9999, "cannot be read"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"__import__('os')", "which is not known"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"Ether()/IP()", "a walk follows one"),
    (["walk", "pod1", "pod4", "--from-file", "FILE"], b"IP(ttl=(1,9))", "makes 9 packets"),
    (["walk", "pod1", "pod4", "--from-file", "/dev/zero"], b"", "bytes are no scapy expression"),
    (["walk", "pod1", "nobody"], b"", "nothing in this lab is called 'nobody'"),
    (["walk", "pod1"], b"", "from where to where"),
    (["walk", "pod1", "pod4", "--save", "/nowhere/x"], b"", "cannot write"),
    (["step", "pod1"], b"", "pod1 is no node"),
    (["golden", "FILE"], b"\0", "hostile"),
    (["golden", "FILE"], b"(" * 9999, "hostile"),
    (["golden", "FILE"], b"\xff", "is no UTF-8"),
    (["golden", "FILE"], b"raise SystemExit(3)", "hostile"),
    (["golden", "FILE"], b"while True: pass", "no end after"),
    (["golden", "FILE"], b"class Engine: pass", "has no encapsulate"),
    (["golden", "/dev/zero"], b"", "is no file"),
]


@pytest.mark.parametrize(("arguments", "content", "message"), HOSTILE)
def test_what_cannot_be_is_one_line(
    standing: Labs, home: Path, arguments: list[str], content: bytes, message: str
) -> None:
    file = put(home, "hostile.py", content)
    done = standing.run(*[file if word == "FILE" else word for word in arguments], status=None)
    assert done.returncode in (1, 2), done.stdout
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1 or "usage:" in done.stderr


def test_a_walk_that_cannot_be_kept_is_shown(standing: Labs) -> None:
    walks = standing.directory / "default" / "walks"
    kept = walks.with_name("kept")
    walks.mkdir(exist_ok=True)
    walks.rename(kept)
    walks.touch()
    try:
        done = standing.run("walk", "pod1", "pod4", "--brief")
    finally:
        walks.unlink()
        kept.rename(walks)
    assert "Answered after" in done.stdout
    assert "the walk is not kept" in done.stderr
