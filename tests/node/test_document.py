"""The status document: its definition, the page about it, and what a node says."""

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataplane.node.document import StatusDocument

PAGE = Path(__file__).parents[2] / "docs" / "status-json.md"


def parts(kind: Any) -> Iterator[Any]:
    """The typed dicts in an annotation."""
    if typing.is_typeddict(kind):
        yield kind
    elif typing.get_origin(kind) in (list, typing.Union, types.UnionType, typing.NotRequired):
        for argument in typing.get_args(kind):
            yield from parts(argument)


def keys(document: Any) -> Iterator[str]:
    """All keys of a typed dict and of those within it."""
    for name, kind in typing.get_type_hints(document).items():
        yield name
        for part in parts(kind):
            yield from keys(part)


def differing(value: Any, kind: Any, path: str = "") -> Iterator[str]:
    """The keys that `value` has and its typed dict has not, and those that it lacks."""
    for part in parts(kind):
        for entry in value if isinstance(value, list) else [] if value is None else [value]:
            hints = typing.get_type_hints(part)
            yield from (
                f"{path}.{name}" for name in (entry.keys() - hints.keys()) | (part.__required_keys__ - entry.keys())
            )
            for name in entry.keys() & hints.keys():
                yield from differing(entry[name], hints[name], f"{path}.{name}")


def test_the_page_names_every_key() -> None:
    named = set(re.findall(r"[\w]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE.read_text()))))
    assert set(keys(StatusDocument)) - named == set()


def test_a_key_too_much_and_a_key_too_few_are_seen() -> None:
    status: Any = dict.fromkeys(typing.get_type_hints(StatusDocument)) | {"peers": [{"subnet": ""}]}
    del status["pid"]
    found = set(differing(status, StatusDocument))
    assert {".pid", ".peers.subnet", ".peers.subnets"} <= found
    assert ".version" not in found
