"""Flags made from dataclasses: one field is a flag, an environment variable, a default and a line of help.

A field whose metadata comes from `about` is a flag of the same name with dashes, and an environment variable with
UDPLANE_ in front. Where a flag is flannel's and means the same, FLANNELD_ is read too. The flag wins over the
environment, and UDPLANE_ over FLANNELD_. As with flannel's flags, a true-or-false flag stands alone or takes `=true` or
`=false`, and one dash is as good as two.
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from dataplane.errors import UsageError

_Options = TypeVar("_Options")


def boolean(text: str) -> bool:
    """The truth values that Go's flags take (strconv.ParseBool)."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def bounded(minimum: int, maximum: int) -> Callable[[str], int]:
    """A reader of whole numbers between two bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError(f"{text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """A reader of one of some words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


def path(text: str) -> Path:
    """A reader of paths. An empty text, as of a variable that is set to nothing, would be the current directory."""
    if not text:
        raise ValueError("an empty text is no path")
    return Path(text)


def about(
    description: str, parse: Callable[[str], Any] = str, *, metavar: str = "", flannel: bool = False
) -> Mapping[str, Any]:
    """What makes a dataclass field a flag: metadata for its help and for reading it.

    `flannel` says that flannel has the flag too, with the same meaning.
    """
    return {"help": description, "parse": parse, "metavar": metavar, "flannel": flannel}


def add_flags(parser: argparse.ArgumentParser, options: type[Any]) -> None:
    """Add the flags of the dataclass `options` to `parser`."""
    for option in _flags(options):
        parse, default = option.metadata["parse"], option.default
        shown = f" (default {_spelled(default)})" if default else ""
        arguments: dict[str, Any] = {"nargs": "?", "const": True} if parse is boolean else {}
        parser.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=as_argument(parse),
            default=MISSING,
            metavar=option.metadata["metavar"] or "BOOL",
            help=(option.metadata["help"] + shown).replace("%", "%%"),
            **arguments,
        )


def read_flags(namespace: argparse.Namespace, environment: Mapping[str, str], options: type[_Options]) -> _Options:
    """Make an instance of the dataclass `options` from what was parsed, else from the environment, else by default."""
    values = {}
    for option in _flags(options):
        value = getattr(namespace, option.name)
        values[option.name] = _from_environment(option, environment) if value is MISSING else value
    return options(**values)


def normalize(arguments: Sequence[str]) -> list[str]:
    """Turn Go's `-iface=eth0` into `--iface=eth0`; one-letter flags stay as they are."""
    return [re.sub(r"^-(?=[a-z][a-z0-9-]+)", "--", argument) for argument in arguments]


def as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` with its errors as argparse shows them word for word."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def _flags(options: type[Any]) -> list[Field[Any]]:
    return [option for option in fields(options) if "parse" in option.metadata]


def _from_environment(option: Field[Any], environment: Mapping[str, str]) -> Any:
    prefixes = ("UDPLANE_", "FLANNELD_") if option.metadata["flannel"] else ("UDPLANE_",)
    for name in (prefix + option.name.upper() for prefix in prefixes):
        if name in environment:
            try:
                return option.metadata["parse"](environment[name])
            except ValueError as error:
                raise UsageError(f"environment variable {name}: {error}") from error
    return option.default


def _spelled(value: Any) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else os.fspath(value) if isinstance(value, Path) else str(value)
    )


def seconds(text: str) -> float:
    """A time for argparse, in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.05 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of at least 0.05 seconds")
    return number


def count(text: str) -> int:
    """A number of things for argparse, at least one."""
    number: int = as_argument(bounded(1, 10**12))(text)
    return number
