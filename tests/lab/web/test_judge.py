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

WHOLE = """
from dataplane.engines.python import PythonEngine

class Mine(PythonEngine):
    pass
"""

SOLVED = """
from ipaddress import ip_address

class Engine:
    def encapsulate(self, packet, node):
        fault, four = self.fault(packet), packet[:1] and packet[0] >> 4 == 4
        if fault:
            return fault
        to = ip_address(packet[16:20] if four else packet[24:40])
        if not four and to.ipv4_mapped:
            return "NO_ROUTE"
        found = [(subnet.prefixlen, peer.id, peer) for peer in node.peers for subnet in peer.subnets if to in subnet]
        if not found:
            return "NO_ROUTE"
        ttl = 8 if four else 7
        if packet[ttl] <= 1:
            return "TTL_EXCEEDED"
        if len(packet) > node.mtu:
            return "TOO_BIG"
        new = bytearray(packet)
        new[ttl] -= 1
        if four:
            total = (~int.from_bytes(packet[10:12]) & 0xFFFF) + (~int.from_bytes(packet[8:10]) & 0xFFFF)
            total += int.from_bytes(new[8:10])
            while total > 0xFFFF:
                total = (total & 0xFFFF) + (total >> 16)
            new[10:12] = (~total & 0xFFFF).to_bytes(2)
        return new, max(found)[2]

    def fault(self, packet):
        if not packet:
            return "TRUNCATED"
        if packet[0] >> 4 not in (4, 6):
            return "BAD_VERSION"
        if len(packet) < (20 if packet[0] >> 4 == 4 else 40):
            return "TRUNCATED"
        if packet[0] >> 4 == 6:
            return "" if int.from_bytes(packet[4:6]) + 40 == len(packet) else "BAD_LENGTH"
        size = (packet[0] & 15) * 4
        if size < 20:
            return "BAD_HEADER"
        if size > len(packet):
            return "TRUNCATED"
        length = int.from_bytes(packet[2:4])
        return "" if length == len(packet) and length >= size else "BAD_LENGTH"
"""


def judged(old: str, new: str) -> dict[str, dict[str, object]]:
    """What becomes of the packets that fail when this part of a right engine is another one."""
    assert old in SOLVED
    results = judge.judge(SOLVED.replace(old, new), CASES)["results"]
    return {result["name"]: result for result in results if not result["ok"]}


def test_the_page_has_the_golden_packets_of_the_engines() -> None:
    known = {case.name: case for case in golden.load()}
    for case in CASES:
        own = known[case["name"]]
        assert (case["input"], case["bytes"]) == (own.input_hex, own.left.hex())
        assert (case["verdict"], case["next_hop"]) == (own.verdict, own.next_hop if own.verdict == "FORWARDED" else -1)


@pytest.mark.parametrize("text", [WHOLE, SOLVED], ids=["whole", "one packet"])
def test_a_right_engine_passes(text: str) -> None:
    assert [result["name"] for result in judge.judge(text, CASES)["results"] if not result["ok"]] == []


def test_what_a_student_begins_with_runs_and_is_not_right_yet() -> None:
    results = judge.judge(starter(), CASES)["results"]
    assert {"error" in result for result in results} == {False, True} or not any("error" in r for r in results)
    assert 0 < sum(result["ok"] for result in results) < len(results)


@pytest.mark.parametrize(
    ("old", "new", "name", "hint"),
    [
        ("new[10:12] = ", "ignored = ", "IPv4 UDP to peer 1", "checksum"),
        (
            "(~total & 0xFFFF).to_bytes(2)",
            "(~total & 0xFFFF).to_bytes(2, 'little')",
            "IPv4 UDP to peer 1",
            "byte_order",
        ),
        ("packet[ttl] <= 1", "packet[ttl] < 1", "TTL 1", "verdict"),
        ("packet[ttl] <= 1", "packet[ttl] <= 2", "TTL 2 is the lowest that passes", "verdict"),
        ("len(packet) > node.mtu", "len(packet) >= node.mtu", "", "verdict"),
        ("new[ttl] -= 1", "pass", "IPv6 UDP to peer 1", "hop_limit"),
        ("max(found)", "min(found)", "the longest prefix wins, IPv4", "next_hop"),
        ("return new,", "return new + b'x',", "IPv4 UDP to peer 1", "length"),
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
    failed = judged("ttl = 8 if four", "ttl = packet[10000] if four")
    assert next(iter(failed.values()))["error"] == "line 15: IndexError: index out of range"


@pytest.mark.parametrize(
    ("answer", "said"),
    [("None", "returned 'None'"), ("'LOST'", "'LOST' is no reason"), ("packet", "and not (bytes, peer)")],
)
def test_an_answer_that_is_none_is_told(answer: str, said: str) -> None:
    failed = judged("fault, four = self.fault(packet)", f"return {answer}\n        fault, four = self.fault(packet)")
    assert said in str(next(iter(failed.values()))["error"])


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
