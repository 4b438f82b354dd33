"""TOML that is read strictly: what is wrong is told with file, line, and what to write instead.

The standard library's reader keeps no lines, so they are looked up in the text again: `Lines` knows the line of every
table and key. A `Section` gives out the values of one table by key and kind; a key that nobody asked for is a mistake,
for which the nearest one that is known is named.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataplane.errors import ConfigError

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=")
_POSITION = re.compile(r"^(.*?)\s*\(at line (\d+), column \d+\)$|^(.*?)\s*\(at end of document\)$", re.DOTALL)

Trail = tuple[str | int, ...]
"""The way to a table or a key: names of tables, and numbers in lists of tables."""


class Lines:
    """The line of each table and key."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Trail, int] = {}
        self._last: dict[Trail, int] = {}  # of each list of tables, the number of the one that came last
        table: Trail = ()
        for number, line in enumerate(_without_long_texts(text), 1):
            if header := _HEADER.match(line):
                table = self._within_lists(_trail(header[2]))
                if header[1] == "[[":
                    self._last[table] = self._last.get(table, -1) + 1
                    table = (*table, self._last[table])
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                self._lines.setdefault((*table, *_trail(key[1])), number)

    def _within_lists(self, names: Trail) -> Trail:
        """The way to a table by its names: those of lists on the way stand for the last table in them."""
        trail: Trail = ()
        for name in names:
            trail = (*trail, self._last[trail], name) if trail in self._last else (*trail, name)
        return trail

    def of(self, trail: Trail) -> int:
        """The line where it is written, or where the nearest thing around it is."""
        while trail and trail not in self._lines:
            trail = trail[:-1]
        return self._lines.get(trail, 1)


class Section:
    """A table of a file."""

    def __init__(self, file: str, lines: Lines, values: Mapping[str, Any], trail: Trail = ()) -> None:
        self.file = file
        self.trail = trail
        self._lines = lines
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return str(self._get(key, str, "a text in quotes", default))

    def whole_number(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        number = self._get(key, int, "a whole number", default)
        if isinstance(number, bool) or not least <= number <= most:
            raise self.wrong(key, f"{number} is no number from {least} to {most}")
        return int(number)

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._get(key, bool, "true or false", default))

    def texts(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts."""
        found = self._get(key, list, 'a list of texts such as ["a", "b"]', list(default))
        if not all(isinstance(item, str) for item in found):
            raise self.wrong(key, 'write a list of texts such as ["a", "b"]')
        return tuple(found)

    def needed(self, key: str) -> str:
        """A text that has to be there."""
        text = self.text(key)
        if not text.strip():
            raise self.wrong(key, "is needed here")
        return text

    def pattern(self, key: str) -> str:
        """A regular expression (the module re); empty matches everything."""
        text = self.text(key)
        try:
            re.compile(text)
        except re.error as error:
            raise self.wrong(key, f"this is no regular expression: {error}") from error
        return text

    def plain(self, key: str) -> dict[str, str | int | bool]:
        """A table of texts, whole numbers, true and false, with any keys."""
        found: dict[str, Any] = dict(self._get(key, dict, 'a table such as { state = "UP" }', {}))
        if not all(isinstance(value, str | int | bool) for value in found.values()):
            raise self.wrong(key, "the values of this table are texts, whole numbers, true or false")
        return found

    def pair(self, key: str) -> tuple[int, int]:
        """Two whole numbers, the first not above the second."""
        found = self._get(key, list, "two whole numbers such as [2000, 2999]", [])
        if len(found) != 2 or not all(type(item) is int for item in found) or found[0] > found[1]:
            raise self.wrong(key, "write two whole numbers, the smaller one first, such as [2000, 2999]")
        return found[0], found[1]

    def names(self) -> list[str]:
        """The keys of the table, in order."""
        return list(self._values)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """One of some texts."""
        text = self.text(key, default)
        if text not in choices:
            raise self.wrong(key, f"{text!r} is not one of {', '.join(choices)}{_nearest(text, choices)}")
        return text

    def section(self, key: str) -> "Section":
        """The table of that name; empty if there is none."""
        return self._sub(key, self._get(key, dict, f"a table [{key}]", {}))

    def sections(self, key: str) -> Iterator[tuple[str, "Section"]]:
        """The tables within the table of that name."""
        for name, value in self._get(key, dict, f"tables [{key}.NAME]", {}).items():
            if not isinstance(value, dict):
                raise self._sub(key, {}).wrong(name, f"write a table [{key}.{name}]")
            yield name, Section(self.file, self._lines, value, (*self.trail, key, name))

    def listed(self, key: str) -> Iterator["Section"]:
        """The tables of a list of tables."""
        entries = self._get(key, list, f"tables [[{key}]]", [])
        for number, value in enumerate(entries):
            if not isinstance(value, dict):
                raise self.wrong(key, f"write tables [[{key}]]")
            yield Section(self.file, self._lines, value, (*self.trail, key, number))

    def done(self) -> None:
        """Everything was asked for that this table can have. Raises ConfigError for the rest."""
        for key in self._values:
            if key not in self._asked:
                known = sorted(self._asked)
                hint = _nearest(key, known) or f"; there are {', '.join(known)}"
                raise ConfigError(f"{self.place(key)}: {self._name(key)} is not known{hint}")

    def place(self, key: str = "") -> str:
        """`file:line` of a key, or of the table."""
        return f"{self.file}:{self._lines.of((*self.trail, key) if key else self.trail)}"

    def wrong(self, key: str, remedy: str) -> ConfigError:
        """The error about the value of a key."""
        return ConfigError(f"{self.place(key)}: {self._name(key)}: {remedy}")

    def _name(self, key: str) -> str:
        return ".".join(str(part) for part in (*self.trail, key) if isinstance(part, str) and part)

    def _sub(self, key: str, values: Mapping[str, Any]) -> "Section":
        return Section(self.file, self._lines, values, (*self.trail, key))

    def _get(self, key: str, kind: type, what: str, default: Any) -> Any:
        self._asked.add(key)
        value = self._values.get(key, default)
        if not isinstance(value, kind):
            raise self.wrong(key, f"write {what}")
        return value


def read(path: Path, file: str | None = None) -> Section:
    """The file as a whole, called `file` in messages. Raises ConfigError."""
    file = file or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8; save it as text") from error
    return parse(text, file)


def parse(text: str, file: str) -> Section:
    """The text of a file as a whole. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _POSITION.match(str(error))
        what, line = (match[1] or match[3], match[2] or len(text.splitlines())) if match else (str(error), 1)
        raise ConfigError(f"{file}:{line}: this is no TOML: {_explained(what)}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: brackets within brackets, too deep to be read") from error
    return Section(file, Lines(text), values)


def _explained(complaint: str) -> str:
    """What the reader of the standard library complains about, with what to do where that is not plain."""
    if complaint.startswith("Cannot declare"):
        names = re.findall(r"'([^']*)'", complaint)
        return f"[{'.'.join(names)}] stands twice; give one of them another name"
    if complaint.startswith("Cannot overwrite a value"):
        return "this key stands twice in its table; keep one"
    if complaint == "Invalid value":
        return "a text needs quotes around it, a list brackets"
    return complaint


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _trail(dotted: str) -> Trail:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _without_long_texts(text: str) -> Iterator[str]:
    """The lines, empty those within a text of several lines."""
    quote = ""
    for line in text.splitlines():
        if quote:
            yield ""
            quote = "" if quote in line else quote
            continue
        yield line
        for mark in ('"""', "'''"):
            if line.count(mark) % 2:
                quote = mark
