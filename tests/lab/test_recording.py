"""Recordings in files: what was written is read again, and whatever else lies there is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.lab import recording_file, walk_pcap
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Check, Counter, Leg, Outcome, Packet, Recording, See, Step, Walk, compare
from dataplane.lab.walk_text import WIDTH, recording_lines

DATA = bytes.fromhex("4500001c000140004001f2e00afe01020afe02020800f7fd00010001")


def example() -> Recording:
    packet = Packet("ip", DATA, "recorded", gso_type="udp", gso_size=28, checksum_promised=True)
    first = Step("request", "pod1", "route", packet, "route.origin.link", "route", args={"to": "10.254.2.2"}, see=[0])
    last = Step("request", "node1", "engine", Packet("ip", DATA, "recomputed"), "engine.drop.encap", "engine")
    last.checks = [Check("ttl", False, {"ttl": 1})]
    last.counters = [Counter("node1", "udplane.encap.drops.ttl_exceeded", 0, 1)]
    last.verdict, last.time_us, last.changed, last.segments = "ttl_exceeded", 1.5, [(8, 1)], [{"len": 28, "offset": 0}]
    outcome = Outcome(
        "died", "node1", "engine", "ttl_exceeded", "died.ttl_exceeded", {"where": "node1"}, last.counters[0]
    )
    walk = Walk("1", "udplane lab walk pod1 pod4", [Leg("request", "request")], [first, last], outcome)
    return Recording({"name": "x"}, [See("pod1", "ip route get 10.254.2.2", "10.254.2.2 dev eth0")], [walk])


@pytest.mark.parametrize("as_lines", [False, True])
def test_what_was_written_is_read_again(tmp_path: Path, as_lines: bool) -> None:
    file = tmp_path / "walk.json"
    if as_lines:
        file.write_text("\n".join(example().lines()))
    else:
        recording_file.save(example(), file)
    assert recording_file.load(file) == example()


def broken(path: str, value: Any) -> str:
    """The example's document with something else at `path`."""
    document = example().document()
    *parents, last = path.split(".")
    at: Any = document
    for name in parents:
        at = at[int(name) if name.isdigit() else name]
    at[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is no JSON"),
        ("[]", "the document is no object"),
        ("{}", "format is no text"),
        (broken("version", 2), "no udplane-walk document of version 1"),
        (broken("walks", {}), "walks is no list"),
        (broken("walks.0.steps.0.packet.hex", "zz"), r"walks\[0\].steps\[0\].packet.hex is not hexadecimal"),
        (broken("walks.0.steps.0.packet.link", "wifi"), "is 'wifi' and not one of ethernet"),
        (broken("walks.0.steps.0.see", [7]), "see has something that is no number of an output"),
        (broken("walks.0.steps.0.leg", "other"), "leg is none of the walk's legs"),
        (broken("walks.0.steps.1.t_us", "soon"), "t_us is no number"),
        (broken("walks.0.steps.0.packet.len", True), "len is no whole number"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ('{"format": "udplane-walk", "version": 1, "lab": {}}\n{"walk": 1}', "line 2 is no line of a recording"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "walk.json"
    file.write_text(text)
    with pytest.raises(LabError, match=said) as raised:
        recording_file.load(file)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    document = example().document()
    document["walks"][0]["steps"][0]["packet"] = value
    try:
        recording_file.read(document)
    except Exception as error:  # noqa: BLE001
        assert type(error).__name__ == "_WrongError"


def test_nothing_in_a_file_commands_a_terminal(tmp_path: Path) -> None:
    recording = example()
    recording.see[0].output = "\x1b[2Jgone"
    recording.walks[0].steps[0].args["to"] = "\x1b]0;title\x07"
    recording_file.save(recording, tmp_path / "walk.json")
    text = "\n".join(recording_lines(recording_file.load(tmp_path / "walk.json")))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_text_keeps_to_the_terminal() -> None:
    assert [line for line in recording_lines(example()) if len(line) > WIDTH] == []


def test_a_capture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot write"):
        walk_pcap.write(example(), tmp_path / "missing" / "x.pcapng")


def test_bytes_that_changed_are_ranges_of_the_later_packet() -> None:
    after = bytearray(DATA)
    after[8] -= 1
    after[10] += 1
    ethernet = Packet("ethernet", bytes(12) + b"\x08\x00" + bytes(after), "recorded")
    ranges, added, removed = compare(Packet("ip", DATA, "recorded"), ethernet)
    assert (ranges, added, removed) == ([(22, 1), (24, 1)], ["Ethernet"], [])
