"""JSON as Go reads and writes it; the oracles are Python's json and messages recorded from the official plugins."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.lib.gojson import Fields, JsonSyntaxError, JsonTypeError, dumps, loads, lookup
from cni.lib.gosyntax import explain
from tests.cni.plugin_calls import call, environment
from tests.cni.world.world import GO_PLUGINS, REMEDIES
from tests.vectors import go_fields

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)

# What Debian's plugins (Go 1.19) said about these inputs.
GO_MESSAGES = {
    "": "unexpected end of JSON input",
    "   ": "unexpected end of JSON input",
    '{"cniVersion":"1.0.0","name":"n"': "unexpected end of JSON input",
    '{"a":tru': "unexpected end of JSON input",
    '{"a":trux}': "invalid character 'x' in literal true (expecting 'e')",
    '{"a" 1}': "invalid character '1' after object key",
    "[1,]": "invalid character ']' looking for beginning of value",
    "{,}": "invalid character ',' looking for beginning of object key string",
    "[1 2]": "invalid character '2' after array element",
    '{"a":1 "b"': "invalid character '\"' after object key:value pair",
    '{"name":"n"} x': "invalid character 'x' after top-level value",
    '{"a":01}': "invalid character '1' after object key:value pair",
    "{'a':1}": "invalid character '\\'' looking for beginning of object key string",
    '{"a":-x}': "invalid character 'x' in numeric literal",
    '{"a":1.}': "invalid character '}' after decimal point in numeric literal",
    '{"a":1e}': "invalid character '}' in exponent of numeric literal",
    '{"a":"\\x"}': "invalid character 'x' in string escape code",
    '{"a":"\\u12g4"}': "invalid character 'g' in \\u hexadecimal character escape",
    '{"a":"\n"}': "invalid character '\\n' in string literal",
    "NaN": "invalid character 'N' looking for beginning of value",
    "\x00": "invalid character '\\x00' looking for beginning of value",
}


@given(VALUES)
def test_what_is_printed_is_json_of_the_same_value(value: Any) -> None:
    for indent in (None, 4):
        assert json.loads(dumps(value, indent)) == value
    assert loads(json.dumps(value).encode()) == value


@given(st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-\\ntrufalsx \n', max_size=30).map(str.encode))
def test_accepts_what_python_accepts(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    try:
        wanted = json.loads(text.strip(" \t\r\n"), parse_constant=lambda name: pytest.fail(name))
    except (ValueError, pytest.fail.Exception):
        with pytest.raises(JsonSyntaxError):
            loads(raw)
        assert explain(text).startswith(("invalid character ", "unexpected end of JSON input"))
    else:
        assert loads(raw) == wanted


@pytest.mark.parametrize(("text", "message"), GO_MESSAGES.items(), ids=repr)
def test_messages_are_those_of_go(text: str, message: str) -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        loads(text.encode())
    assert str(caught.value) == message


def test_depth_is_the_inputs_to_choose() -> None:
    with pytest.raises(JsonSyntaxError):
        loads(b"[" * 100_000)
    assert explain("[" * 10_001) == "exceeded max depth"
    assert explain("[" * 10_000) == "unexpected end of JSON input"


def test_what_is_no_character_becomes_the_replacement_character() -> None:
    assert loads(b'"\xff"') == "\ufffd"
    assert loads(b'"\\ud800x"') == "\ufffdx"
    assert loads(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_printing_escapes_and_sorts_like_go() -> None:
    assert dumps('<a>&\u2028\x01"\\\n') == '"\\u003ca\\u003e\\u0026\\u2028\\u0001\\"\\\\\\n"'
    assert dumps({"b": [], "a": {}}, indent=4, sort_keys=True) == '{\n    "a": {},\n    "b": []\n}'
    assert dumps([1.0, 0.5, 1e30]) == "[1,0.5,1e+30]"


def test_keys_match_in_any_case_and_null_is_absent() -> None:
    conf = {"HOSTPORT": 1, "hostPort": 2, "hostIP": None, "other": 3}
    assert lookup(conf, "hostPort") == 2
    assert lookup(conf, "hostIP") is None
    assert Fields(conf, "Entry").text("hostIP", "any") == "any"


@pytest.mark.parametrize(("document", "expected"), go_fields.CASES)
def test_which_member_counts_is_gos_rule(document: str, expected: str | None) -> None:
    assert lookup(loads(document.encode()), go_fields.KEY) == expected


@pytest.mark.parametrize(("document", "expected"), go_fields.CASES)
def test_the_official_plugin_reads_the_same_members(document: str, expected: str | None) -> None:
    if not (GO_PLUGINS / "static").exists():
        pytest.skip(f"needs the official plugins in {GO_PLUGINS}: {REMEDIES[GO_PLUGINS]}")
    text = '{"cniVersion": "1.0.0", "name": "n", "ipam": {"type": "static", "addresses": [%]}}'.replace("%", document)
    done = subprocess.run(
        [GO_PLUGINS / "static"], env=environment("ADD"), input=text.encode(), capture_output=True, check=False
    )
    answer = json.loads(done.stdout)
    assert answer.get("ips", [{}])[0].get("address") == expected, answer
    assert call("static", "ADD", text.encode()).status == done.returncode


def test_objects_for_one_field_are_merged() -> None:
    for again in ("ipam", "IPAM"):
        text = '{"ipam": {"a": 1, "b": {"x": 1}}, "n": 0, "ipam": null, "%": {"A": 2, "b": {"y": 2}, "c": 3}}'
        ipam = lookup(loads(text.replace("%", again).encode()), "ipam")
        assert [lookup(ipam, key) for key in "abc"] == [2, {"x": 1, "y": 2}, 3]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda f: f.number("text"), "string into Go struct field NetConf.text of type int"),
        (lambda f: f.number("half"), "number 0.5 into Go struct field NetConf.half of type int"),
        (lambda f: f.number("minus", go_type="uint"), "number -1 into Go struct field NetConf.minus of type uint"),
        (lambda f: f.text("half"), "number into Go struct field NetConf.half of type string"),
        (lambda f: f.flag("text"), "string into Go struct field NetConf.text of type bool"),
        (lambda f: f.texts("mixed"), "bool into Go struct field NetConf.mixed of type string"),
        (
            lambda f: f.child("ipam", "IPAM").text("type"),
            "object into Go struct field IPAM.NetConf.ipam.type of type string",
        ),
        (lambda f: f.children("text", "Route"), "string into Go struct field NetConf.text of type []Route"),
    ],
)
def test_wrong_types_are_told_like_go(read: Any, message: str) -> None:
    fields = Fields({"text": "1", "half": 0.5, "minus": -1, "mixed": ["a", True], "ipam": {"type": {}}}, "NetConf")
    with pytest.raises(JsonTypeError) as caught:
        read(fields)
    assert str(caught.value) == f"json: cannot unmarshal {message}"
