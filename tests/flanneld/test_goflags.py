"""Go's flag syntax, case by case as Go's own tests have it (src/flag, src/strconv), and any texts at all."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.flanneld import goflags
from dataplane.flanneld.goflags import BOOL, INT, STRING, STRINGS, FlagError, HelpError, flag


@dataclass(frozen=True, slots=True)
class Sample:
    """One flag of each kind."""

    ip_masq: bool = flag(BOOL, False, "a truth")
    forward: bool = flag(BOOL, True, "another")
    port: int = flag(INT, 0, "a number")
    margin: int = flag(INT, 60, "another")
    prefix: str = flag(STRING, "", "a text")
    name: str = flag(STRING, 'a "b"', "another")
    iface: tuple[str, ...] = flag(STRINGS, (), "texts")


def values(*arguments: str) -> dict[str, Any]:
    return goflags.parse(Sample, arguments)[0]


def refusal(*arguments: str) -> str:
    with pytest.raises(FlagError) as info:
        goflags.parse(Sample, arguments)
    return str(info.value)


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_what_is_true(text: str) -> None:
    assert values(f"-ip-masq={text}") == {"ip_masq": True}


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_what_is_false(text: str) -> None:
    assert values(f"--forward={text}") == {"forward": False}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("010", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0X_1f", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
    ],
)
def test_numbers_in_all_of_gos_forms(text: str, number: int) -> None:
    assert values(f"-port={text}") == {"port": number}


@pytest.mark.parametrize("text", ["", " 1", "1 ", "08", "1__0", "_1", "1_", "0x", "1e3", "1.0", "٣", "x", "--1"])
def test_what_is_no_number(text: str) -> None:
    assert refusal(f"-port={text}") == f'invalid value "{text}" for flag -port: parse error'


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
def test_a_number_too_large(text: str) -> None:
    assert refusal("-port", text) == f'invalid value "{text}" for flag -port: value out of range'


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-nope"], "flag provided but not defined: -nope"),
        (["--nope=1"], "flag provided but not defined: -nope"),
        (["-prefix"], "flag needs an argument: -prefix"),
        (["--ip-masq=maybe"], 'invalid boolean value "maybe" for -ip-masq: parse error'),
        (["--ip-masq="], 'invalid boolean value "" for -ip-masq: parse error'),
        (["---port=1"], "bad flag syntax: ---port=1"),
        (["-=1"], "bad flag syntax: -=1"),
        (["--=1"], "bad flag syntax: --=1"),
    ],
)
def test_refusals_are_in_gos_words(arguments: list[str], text: str) -> None:
    assert refusal(*arguments) == text


@pytest.mark.parametrize("argument", ["-h", "--h", "-help", "--help", "-help=x"])
def test_help_is_asked_for(argument: str) -> None:
    with pytest.raises(HelpError):
        goflags.parse(Sample, [argument])


@pytest.mark.parametrize(
    ("arguments", "set_there", "rest"),
    [
        (["-ip-masq", "false"], {"ip_masq": True}, ["false"]),
        (["-port", "1", "stop", "-port", "2"], {"port": 1}, ["stop", "-port", "2"]),
        (["-port=1", "--", "-port=2"], {"port": 1}, ["-port=2"]),
        (["-", "-port=2"], {}, ["-", "-port=2"]),
        (["", "-port=2"], {}, ["", "-port=2"]),
    ],
)
def test_where_flags_end(arguments: list[str], set_there: dict[str, Any], rest: list[str]) -> None:
    assert goflags.parse(Sample, arguments) == (set_there, rest)


def test_a_value_may_look_like_a_flag_and_hold_an_equals_sign() -> None:
    assert values("-prefix", "-port", "--name=a=b") == {"prefix": "-port", "name": "a=b"}


def test_the_last_of_equal_flags_counts_unless_they_add_up() -> None:
    assert values("-port=1", "-port=2", "-iface=a", "--iface", "b") == {"port": 2, "iface": ("a", "b")}


def test_the_environment_fills_what_is_not_given() -> None:
    given_values = values("-port=1")
    environment = {"X_PORT": "2", "X_IP_MASQ": "true", "X_PREFIX": "", "X_IFACE": "a,b", "X_MARGIN": "soon"}
    complaints = goflags.fill_from_environment(Sample, given_values, environment, "X")
    assert given_values == {"port": 1, "ip_masq": True, "iface": ("a,b",)}
    assert complaints == ['X_MARGIN: invalid value "soon" for flag -margin: parse error']


def test_help_is_laid_out_as_gos() -> None:
    assert list(goflags.usage(Sample))[:8] == [
        "  -forward",
        "    \tanother (default true)",
        "  -iface value",
        "    \ttexts",
        "  -ip-masq",
        "    \ta truth",
        "  -margin int",
        "    \tanother (default 60)",
    ]
    assert '    \tanother (default "a \\"b\\"")' in goflags.usage(Sample)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-", "--", "=", "-ip-masq", "-port", "--name", "-iface="])))
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    try:
        found, rest = goflags.parse(Sample, arguments)
    except (FlagError, HelpError):
        return
    Sample(**found)
    assert rest == arguments[len(arguments) - len(rest) :]
