"""Go's JSON rules: where Python's json module would have read or written something else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError
from dataplane.leases import gojson
from tests.vectors import go_fields


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('{"Network": "a"}', "a"),
        ('{"NETWORK": "a"}', "a"),
        ('{"network": "a", "NETWORK": "b"}', "b"),
        ('{"Network": "a", "network": "b", "Network": "c"}', "c"),
        ('{"network": "a", "Network": "b", "network": "c"}', "c"),
        ('{"Network": "a", "Network": null}', "a"),
        ('{"Network": "a", "network": null}', "a"),
        ('{"Networ\u212a": "kelvin sign"}', "kelvin sign"),
        ('{"Networks": "other key"}', None),
        ("null", None),
        ("{}", None),
    ],
)
def test_keys_match_without_regard_to_case_and_the_last_value_counts(document: str, expected: str | None) -> None:
    assert gojson.lookup(gojson.loads(document, "it"), "Network") == expected


@pytest.mark.parametrize(("document", "expected"), go_fields.CASES)
def test_which_member_counts_is_gos_rule(document: str, expected: str | None) -> None:
    assert gojson.lookup(gojson.loads(document, "it"), go_fields.KEY) == expected


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "line 1 column 1"),
        ("{", "line 1 column 2"),
        ('{"a": 1}\n{"b": 2}', "line 2 column 1"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[]", "not a list"),
        ('"text"', "not a text"),
        ("7", "not the number 7"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "\t"}', "control character"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_a_document_that_is_no_object_is_refused_in_one_line(document: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gojson.loads(document, "the config")
    message = str(caught.value)
    assert message.startswith("the config ")
    assert complaint in message
    assert "\n" not in message


def test_types_are_not_bent() -> None:
    source = gojson.loads('{"n": 1.0, "t": true, "s": "1", "big": 300}', "it")
    for read in (
        lambda: gojson.integer(source, "n", 0, 0, 9),
        lambda: gojson.integer(source, "t", 0, 0, 9),
        lambda: gojson.integer(source, "s", 0, 0, 9),
        lambda: gojson.integer(source, "big", 0, 0, 255),
        lambda: gojson.boolean(source, "s", True),
        lambda: gojson.string(source, "big", ""),
        lambda: gojson.subobject(source, "s"),
    ):
        with pytest.raises(ConfigError):
            read()
    assert gojson.integer(source, "BIG", 0, 0, 300) == 300
    assert gojson.integer(source, "absent", 7, 0, 9) == 7


def test_text_is_escaped_as_go_escapes_it() -> None:
    # Go's json.Marshal escapes these for the sake of HTML and JavaScript, and leaves other text as UTF-8.
    assert gojson.dumps({"a": "<b>&\u2028é"}) == '{"a":"\\u003cb\\u003e\\u0026\\u2028é"}'


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        value = gojson.loads(data, "it")
    except ConfigError:
        return
    assert isinstance(json.loads(gojson.dumps(value)), dict)
