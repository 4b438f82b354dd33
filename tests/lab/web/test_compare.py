"""One packet through three engines: the table that the page shows of it."""

from ipaddress import ip_address
from pathlib import Path

import pytest

import dataplane
from dataplane.engines.registry import load_engine
from dataplane.errors import ConfigError
from dataplane.lab.golden_packets import Case, load
from dataplane.lab.netns import LabError
from dataplane.lab.web import compare
from dataplane.lab.web.compare import Question
from dataplane.packets.routes import address_key
from dataplane.packets.verdicts import Verdict

CASES = {case.name: case for case in load()}
ROOT = Path(dataplane.__file__).parents[1]
SOURCES = {
    "python": "dataplane/engines/python.py",
    "numpy": "dataplane/engines/numpy.py",
    "native": "native/decide.c",
}


def asked(case: Case) -> Question:
    return Question(case.received, case.way, address_key(ip_address(case.source)))


@pytest.mark.parametrize("name", compare.NAMES)
def test_the_words_of_each_step_are_the_engines_own(name: str) -> None:
    source = (ROOT / SOURCES[name]).read_text("utf-8")
    column = compare.NAMES.index(name)
    words = [codes[column] for steps in compare.STEPS.values() for codes in steps.values()]
    assert [word for word in words if word not in source] == []


def test_every_verdict_of_an_engine_ends_at_a_step() -> None:
    outside = {Verdict.FORWARDED, Verdict.SEND_FAILED, Verdict.WRITE_FAILED}
    assert set(compare.ENDS_AT) == set(Verdict) - outside
    assert set(compare.ENDS_AT.values()) <= {step for steps in compare.STEPS.values() for step in steps}


@pytest.mark.parametrize(
    ("name", "step", "value"),
    [
        ("IPv4 UDP to peer 1", "lookup", "192.168.0.202"),
        ("IPv4 UDP to peer 1", "lower", "63, 0x64be"),
        ("IPv6 UDP to peer 1", "lower", "63"),
        ("TTL 1", "ttl", "TTL_EXCEEDED"),
        ("TTL 1", "lower", ""),
        ("a stranger", "sender", "UNKNOWN_SENDER"),
        ("IPv4 from peer 1", "write", None),
    ],
)
def test_engines_agree_on_each_step(name: str, step: str, value: str | None) -> None:
    case = CASES[name]
    outcomes = {}
    for engine_name in compare.NAMES:
        try:
            engine = load_engine(engine_name, case.config)
        except ConfigError:
            continue
        engine.set_routes(case.routes)
        outcomes[engine_name] = compare.run(engine, asked(case))
    cells = compare.row(step, asked(case), outcomes, case.routes)["cells"]
    assert len({(cell["ok"], cell["value"]) for cell in cells.values()}) == 1
    if value is not None:
        assert cells["python"]["value"] == value


def test_time_is_taken() -> None:
    case = CASES["IPv4 UDP to peer 1"]
    engine = load_engine("python", case.config)
    engine.set_routes(case.routes)
    assert compare.nanoseconds(engine, asked(case)) > 0


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"hex": "4g"}, "hex digits"),
        ({"hex": "45" * 10000}, "9216 bytes at most"),
        ({"hex": "45", "way": "decap", "sender": "node2"}, "has a sender"),
    ],
)
def test_what_is_no_packet_is_told(wish: dict[str, str], said: str) -> None:
    with pytest.raises(LabError, match=said):
        compare.question(wish)
