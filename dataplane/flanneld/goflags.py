"""Command lines as Go's package `flag` reads them, for programs that are started as a Go program was.

`-x`, `--x`, `-x=v` and `--x=v` are one; a flag that is not true-or-false also takes its value from the next argument,
a true-or-false flag never does. Reading ends at `--` or at the first argument that is no flag. Refusals are in Go's
words (Go src/flag/flag.go), since people search for them.

A program's flags are the fields of a dataclass, made with `flag`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from dataplane.flags import boolean

_BINARY = re.compile(r"[+-]?0[bB](_?[01])+")
_OCTAL = re.compile(r"[+-]?0[oO]?(_?[0-7])+")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](_?[0-9a-fA-F])+")
_DECIMAL = re.compile(r"[+-]?(0|[1-9](_?[0-9])*)")
_INT64 = range(-(1 << 63), 1 << 63)


class FlagError(Exception):
    """A command line that Go refuses; the text is Go's."""


class HelpError(Exception):
    """Help is asked for, by -h or -help where no flag is called so."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a flag's values are: how Go's help calls them, and how one is read (ValueError with Go's reason)."""

    name: str
    parse: Callable[[str], Any]
    is_bool: bool = False
    repeatable: bool = False


def parse_bool(text: str) -> bool:
    """strconv.ParseBool."""
    try:
        return boolean(text)
    except ValueError as error:
        raise ValueError("parse error") from error


def parse_int(text: str) -> int:
    """strconv.ParseInt with base 0: decimal, or with a prefix 0x, 0b, 0o or 0, with underscores between digits."""
    digits = text.replace("_", "")
    for pattern, base in ((_DECIMAL, 10), (_HEXADECIMAL, 16), (_BINARY, 2), (_OCTAL, 8)):
        if pattern.fullmatch(text):
            # Python refuses to read numbers of thousands of digits, all of which are out of range.
            number = int(digits, base) if len(digits) < 100 else _INT64.stop
            if number not in _INT64:
                raise ValueError("value out of range")
            return number
    raise ValueError("parse error")


BOOL = Kind("", parse_bool, is_bool=True)
INT = Kind("int", parse_int)
STRING = Kind("string", str)
STRINGS = Kind("value", str, repeatable=True)


def flag(kind: Kind, default: Any, description: str) -> Any:
    """A dataclass field that is a flag. Its name is the field's with dashes for underscores."""
    return field(default=default, metadata={"kind": kind, "help": description})


def flags_of(options: type[Any]) -> dict[str, Field[Any]]:
    """The flags of a dataclass by the names that people type."""
    return {_spelled(option.name): option for option in fields(options)}


def parse(options: type[Any], arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read a command line: the values that it sets, by field, and the arguments after the flags.

    FlagError or HelpError for what Go does not take.
    """
    flags, values = flags_of(options), dict[str, Any]()
    rest = list(arguments)
    while rest and len(rest[0]) > 1 and rest[0].startswith("-"):
        argument = rest.pop(0)
        if argument == "--":
            break
        name, text = _split(argument)
        option = flags.get(name)
        if option is None:
            if name in ("h", "help"):
                raise HelpError
            raise FlagError(f"flag provided but not defined: -{name}")
        kind: Kind = option.metadata["kind"]
        if text is None and not kind.is_bool:
            if not rest:
                raise FlagError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        _set(values, option, "true" if text is None else text)
    return values, rest


def fill_from_environment(
    options: type[Any], values: dict[str, Any], environment: Mapping[str, str], prefix: str
) -> list[str]:
    """Set what `values` lacks from variables such as PREFIX_IP_MASQ; an empty one counts as unset.

    Returns a complaint for each variable that cannot be read, which changes nothing.
    """
    complaints = []
    for name, option in flags_of(options).items():
        key = f"{prefix}_{name.replace('-', '_').upper()}"
        if option.name not in values and (text := environment.get(key)):
            try:
                _set(values, option, text)
            except FlagError as error:
                complaints.append(f"{key}: {error}")
    return complaints


def usage(options: type[Any]) -> Iterator[str]:
    """The lines of help, as flag.PrintDefaults lays them out."""
    for name, option in sorted(flags_of(options).items()):
        kind: Kind = option.metadata["kind"]
        yield f"  -{name} {kind.name}".rstrip()
        yield f"    \t{option.metadata['help']}{_default(option.default)}"


def _spelled(name: str) -> str:
    # klog's one flag with underscores came to Go programs from C++.
    return name if name == "log_backtrace_at" else name.replace("_", "-")


def _split(argument: str) -> tuple[str, str | None]:
    """Name and value of one argument; no value is None."""
    name, equals, text = argument.removeprefix("-").removeprefix("-").partition("=")
    if not name or name.startswith("-"):
        raise FlagError(f"bad flag syntax: {argument}")
    return name, text if equals else None


def _set(values: dict[str, Any], option: Field[Any], text: str) -> None:
    kind: Kind = option.metadata["kind"]
    try:
        value = kind.parse(text)
    except ValueError as error:
        what, name = ("boolean value", "") if kind.is_bool else ("value", "flag ")
        shown = json.dumps(text, ensure_ascii=False)
        raise FlagError(f"invalid {what} {shown} for {name}-{_spelled(option.name)}: {error}") from error
    values[option.name] = (*values.get(option.name, ()), value) if kind.repeatable else value


def _default(value: Any) -> str:
    if value in ("", False, 0, ()):
        return ""
    return f" (default {json.dumps(value)})"
