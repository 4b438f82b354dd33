"""Golden packets judge a student's engine, and say what is wrong with it."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dataplane.lab.netns import LabError
from dataplane.lab.web import judge
from dataplane.lab.web.engine import Engine, golden_cases, starter
from tests.vectors import golden

CASES = golden_cases()


def judged(old: str, new: str) -> dict[str, dict[str, object]]:
    """What becomes of the packets that fail when this part of the first text is another one."""
    assert old in starter()
    results = judge.judge(starter().replace(old, new), CASES)["results"]
    return {result["name"]: result for result in results if not result["ok"]}


def test_the_page_has_the_golden_packets_of_the_engines() -> None:
    known = {case.name: case for case in golden.load()}
    for case in CASES:
        own = known[case["name"]]
        assert (case["input"], case["bytes"]) == (own.input_hex, own.left.hex())
        assert (case["verdict"], case["next_hop"]) == (own.verdict, own.next_hop if own.verdict == "FORWARDED" else -1)


def test_the_textbook_engine_and_what_a_student_begins_with_pass() -> None:
    assert [result["name"] for result in judge.reference(CASES) if not result["ok"]] == []
    assert [result["name"] for result in judge.judge(starter(), CASES)["results"] if not result["ok"]] == []


@pytest.mark.parametrize(
    ("old", "new", "name", "hint"),
    [
        ("change_ttl(packet, -1)", "packet[8] -= 1", "IPv4 UDP to peer 1", "checksum"),
        (
            "change_ttl(packet, -1)",
            "change_ttl(packet, -1); packet[10], packet[11] = packet[11], packet[10]",
            "IPv4 UDP to peer 1",
            "byte_order",
        ),
        ("ttl(packet) <= 1", "ttl(packet) < 1", "TTL 1 dies here", "verdict"),
        ("ttl(packet) <= 1", "ttl(packet) <= 2", "TTL 2 is the lowest that passes", "verdict"),
        ("change_ttl(packet, -1)", "pass", "IPv4 UDP to peer 1", "ttl"),
        ("change_ttl(packet, -1)", "pass", "IPv6 UDP to peer 1", "hop_limit"),
        ("return Verdict.FORWARDED, peer", "return Verdict.FORWARDED, 5", "IPv4 UDP to peer 1", "next_hop"),
    ],
)
def test_a_bug_is_told_by_the_packet_that_it_spoils(old: str, new: str, name: str, hint: str) -> None:
    failed = judged(old, new)
    named = next((result for key, result in failed.items() if key == name), None) or next(iter(failed.values()))
    assert named["hint"] == hint
    assert named["expected"] != named["got"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", "line 1: "),
        ("import nothing_of_that_name\n", "line 1: ModuleNotFoundError"),
        ("x = 1\nraise SystemExit(3)\n", "line 2: SystemExit: 3"),
        ("class A: pass\n", "one class with a method `encapsulate` is needed, and 0 are here"),
        ("\0", "null"),
    ],
)
def test_a_text_that_is_no_engine_is_one_line(text: str, said: str) -> None:
    error = judge.judge(text, CASES)["error"]
    assert said in error and "\n" not in error


def test_an_engine_that_fails_says_in_which_line() -> None:
    failed = judged("peer = self._route(packet)", "peer = packet[10000]")
    assert next(iter(failed.values()))["error"] == "line 32: IndexError: index out of bounds on dimension 1"


def test_the_engine_of_the_page_needs_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(Engine().zip)) as archive:
        archive.extractall(tmp_path)
    text = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.modules['cffi'] = sys.modules['pyroute2'] = None\n"
    text += "import dataplane.lab.web.judge as j; print(j.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "dataplane/lab/web/judge.py")


def test_a_directory_without_pyodide_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"is no Pyodide: pyodide\.mjs is missing"):
        Engine(tmp_path)
