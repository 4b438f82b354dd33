"""Somebody's own engine before the golden packets: what is right passes, what is wrong is told how."""

import re
from pathlib import Path

import pytest

from dataplane.engines.own import OwnError
from dataplane.lab import golden
from dataplane.lab.golden import RULES, Result
from dataplane.lab.verbs.golden import lines

RIGHT = Path(__file__).with_name("right.py").read_text()
TEMPLATE = Path(golden.__file__).with_name("engine_template.txt").read_text()


def failures(file: Path, text: str) -> list[Result]:
    file.write_text(text)
    return [result for result in golden.judge(file) if not result.passed]


def test_the_right_one_passes_all(tmp_path: Path) -> None:
    assert failures(tmp_path / "mine.py", RIGHT) == []
    assert len(golden.cases()) >= 100


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        pytest.param("packet[10:12] = (~total", "ignored = (~total", RULES["checksum stayed"], id="not patched"),
        pytest.param(
            '(~total & 0xFFFF).to_bytes(2, "big")', '(~total & 0xFFFF).to_bytes(2, "little")', "order", id="byte order"
        ),
        pytest.param(
            "            total = (total & 0xFFFF) + (total >> 16)", "            total &= 0xFFFF", "carry", id="carry"
        ),
        pytest.param("        packet[8] -= 1\n", "        packet[8] -= 2\n", RULES["ttl"], id="two from the TTL"),
        pytest.param("            packet[7] -= 1\n", "", RULES["ttl"], id="no hop limit"),
        pytest.param("subnet.prefixlen > best", "subnet.prefixlen > -2", RULES["peer"], id="last prefix"),
        pytest.param("self.ttl(packet) <= 1", "self.ttl(packet) < 1", "TTL_EXCEEDED is for", id="TTL bound"),
        pytest.param("len(packet) < 1", "len(packet) < 0", RULES["bounds"], id="reads beyond the end"),
        pytest.param("len(packet) > node.mtu", "len(packet) >= node.mtu", "TOO_BIG is for", id="MTU bound"),
        pytest.param("            return reason\n", "            while True: pass\n", "exception", id="no end"),
    ],
)
def test_a_bug_is_told_by_the_rule_that_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, rule: str
) -> None:
    monkeypatch.setattr("dataplane.engines.own.SECONDS", 0.02)
    assert old in RIGHT
    failed = failures(tmp_path / "mine.py", RIGHT.replace(old, new))
    assert failed
    assert any(rule in result.rule for result in failed), {result.rule for result in failed}
    for result in failed:
        assert lines(result, with_bytes=True)


def test_the_bytes_that_differ_are_marked(tmp_path: Path) -> None:
    first, *_ = failures(tmp_path / "mine.py", RIGHT.replace("packet[10:12] = (~total", "ignored = (~total"))
    shown = "\n".join(lines(first, with_bytes=True))
    assert first.ranges == ((10, 2),) or all(10 <= at <= 11 for at, _ in first.ranges)
    assert re.search(r"expected .*\n +got .*\n +\^\^", shown)


def test_an_exception_names_file_and_line(tmp_path: Path) -> None:
    text = RIGHT.replace("        reason = self.header(packet)\n", "        reason = packet[2000]\n", 1)
    first, *_ = failures(tmp_path / "mine.py", text)
    line = text[: text.index("packet[2000]")].count("\n") + 1
    assert first.got == f"mine.py:{line}: encapsulate: IndexError: index out of range"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def x(:", r"mine\.py:1: invalid syntax"),
        ("import nothing_such", r"mine\.py:1: ModuleNotFoundError: No module named 'nothing_such'"),
        ("x = 1", r"mine\.py: there is no class Engine in it"),
        ("class Engine:\n    encapsulate = 1", r"mine\.py: the class Engine has no encapsulate"),
        ("while True:\n    pass", r"mine\.py:[12]: TimeoutError: no end after"),
    ],
)
def test_a_file_that_is_no_engine_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr("dataplane.engines.own.SECONDS", 0.05)
    with pytest.raises(OwnError, match=said):
        failures(tmp_path / "mine.py", text)


def test_a_file_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RIGHT)
    file.chmod(0o666)
    with pytest.raises(OwnError, match="chmod o-w"):
        list(golden.judge(file))


def test_the_template_can_be_judged(tmp_path: Path) -> None:
    failed = failures(tmp_path / "mine.py", TEMPLATE)
    assert failed
    assert all(result.got in ("NO_ROUTE", "UNKNOWN_SENDER") for result in failed)
