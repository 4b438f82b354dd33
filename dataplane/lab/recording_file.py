"""Recordings in files: written whole, and read from anywhere, so with suspicion.

A file is a document, or the same as JSON lines. Whatever is in it, reading gives a recording or a LabError of one line
that names the file and the place in it. Layers are taken apart anew from the bytes, so a file cannot claim others; and
control characters, which a terminal would obey, become question marks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from dataplane.lab.dissect import LINKS
from dataplane.lab.netns import LabError
from dataplane.lab.recording import (
    FORMAT,
    RECOMPUTED,
    RECORDED,
    VERSION,
    Check,
    Counter,
    Leg,
    Outcome,
    Packet,
    Recording,
    See,
    Step,
    Walk,
)

MAX_BYTES = 64 << 20
MAX_TEXT = 1 << 18
ORIGINS = (RECORDED, RECOMPUTED, "hand")

T = TypeVar("T")


class _WrongError(Exception):
    """What is wrong, and where in the document."""


def load(file: Path) -> Recording:
    """The recording in a file. Raises LabError of one line."""
    data = read_at_most(file, MAX_BYTES, "a recording of a walk")
    try:
        return read(_parse(data))
    except _WrongError as error:
        raise LabError(f"{file}: {error}; `udplane lab walk FROM TO --save FILE` makes such a file") from None
    except RecursionError:
        raise LabError(f"{file}: nested too deeply to be a recording of a walk") from None


def read_at_most(file: Path, most: int, what: str) -> bytes:
    """What is in a file that somebody has named. Raises LabError when it is longer than `what` can be."""
    try:
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise LabError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > most:
        raise LabError(f"{file}: more than {most} bytes are no {what.removeprefix('a ')}")
    return data


def save(recording: Recording, file: Path) -> None:
    """Write a recording as one document. Raises LabError."""
    try:
        file.write_text(json.dumps(recording.document(), ensure_ascii=False), "utf-8")
    except OSError as error:
        raise LabError(f"cannot write {file}: {error.strerror}") from error


def read(document: Any) -> Recording:
    """The recording that a document describes. Raises `_WrongError`."""
    whole = _Object(document, "")
    if whole.text("format") != FORMAT or whole.number("version") != VERSION:
        raise _WrongError(f"this is no {FORMAT} document of version {VERSION}")
    see = [See(s.text("in"), s.text("cmd"), s.text("out"), s.choice("origin", ORIGINS)) for s in whole.objects("see")]
    walks = [_walk(entry, len(see)) for entry in whole.objects("walks")]
    return Recording(_clean(whole.get("lab", dict)), see, walks)


def _parse(data: bytes) -> Any:
    """A document, or JSON lines put together to one."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _WrongError(f"byte {error.start} is no UTF-8") from error
    lines = text.splitlines()
    try:
        first = json.loads(lines[0]) if lines else {}
    except ValueError:
        first = {}
    if isinstance(first, dict) and "walks" not in first and first.get("format") == FORMAT and len(lines) > 1:
        return _from_lines(first, lines[1:])
    try:
        return json.loads(text)
    except ValueError as error:
        raise _WrongError(f"this is no JSON ({error})") from error


def _from_lines(head: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    document = {**head, "see": [], "walks": []}
    outputs: dict[int, Any] = {}
    for number, line in enumerate(lines, 2):
        try:
            ((kind, value),) = json.loads(line).items()
            if kind == "walk":
                document["walks"].append({**value, "steps": []})
            elif kind == "see":
                outputs[int(value["n"])] = value
            elif kind == "step":
                document["walks"][-1]["steps"].append(value)
            else:
                document["walks"][-1][kind] = value
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise _WrongError(f"line {number} is no line of a recording") from error
    missing = {"in": "", "cmd": "", "out": "", "origin": RECORDED}
    last = min(max(outputs, default=-1), len(lines))
    document["see"] = [outputs.get(number, missing) for number in range(last + 1)]
    return document


class _Object:
    """An object of the document, whose values are taken out with what they must be."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _WrongError(f"{path or 'the document'} is no object")
        self._value, self.path = value, path

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A value of that kind; `default` where there is none."""
        value = self._value.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise _WrongError(f"{self._at(key)} is no {_NAMES.get(kind, kind.__name__)}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text, without control characters."""
        return _clean_text(self.get(key, str, default))

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number that is not negative."""
        value = self.get(key, int, default)
        if value < 0:
            raise _WrongError(f"{self._at(key)} is negative")
        return value

    def seconds(self, key: str) -> float | None:
        """A number with a fraction, or none."""
        value = self._value.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _WrongError(f"{self._at(key)} is no number")
        return float(value)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of some texts."""
        value = self.text(key)
        if value not in choices:
            raise _WrongError(f"{self._at(key)} is {value[:40]!r} and not one of {', '.join(choices)}")
        return value

    def object(self, key: str, default: dict[str, Any] | None = None) -> _Object:
        """An object."""
        return _Object(self.get(key, dict, default), self._at(key))

    def objects(self, key: str) -> Iterator[_Object]:
        """The objects of a list, which may be missing."""
        for number, value in enumerate(self.get(key, list, [])):
            yield _Object(value, f"{self._at(key)}[{number}]")

    def values(self, key: str, check: Callable[[Any], bool], what: str) -> list[Any]:
        """The values of a list, which may be missing."""
        values = self.get(key, list, [])
        if not all(check(value) for value in values):
            raise _WrongError(f"{self._at(key)} has something that is no {what}")
        return values

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


_NAMES: dict[type, str] = {str: "text", int: "whole number", dict: "object", list: "list", bool: "true or false"}


def _walk(entry: _Object, n_see: int) -> Walk:
    legs = [Leg(leg.text("id"), leg.text("kind"), leg.text("parent", "")) for leg in entry.objects("legs")]
    steps = [_step(step, n_see) for step in entry.objects("steps")]
    known = {leg.id for leg in legs}
    for number, step in enumerate(steps):
        if step.leg not in known:
            raise _WrongError(f"{entry.path}.steps[{number}].leg is none of the walk's legs")
    return Walk(entry.text("id"), entry.text("ask"), legs, steps, _outcome(entry.object("outcome")))


def _step(entry: _Object, n_see: int) -> Step:
    at = entry.object("at")
    return Step(
        leg=entry.text("leg"),
        where=at.text("where"),
        place=at.text("place"),
        packet=_packet(entry.object("packet")),
        say=entry.text("say"),
        by=entry.text("by"),
        device=at.text("device", ""),
        direction=entry.choice("dir", ("in", "out")) if entry.get("dir", str, "") else "",
        time_us=entry.seconds("t_us"),
        args=_clean(entry.get("args", dict, {})),
        changed=[(pair[0], pair[1]) for pair in entry.values("changed", _is_range, "pair of offset and length")],
        added=_clean(entry.values("added", _is_text, "text")),
        removed=_clean(entry.values("removed", _is_text, "text")),
        checks=[_check(check) for check in entry.objects("checks")],
        counters=[_counter(counter) for counter in entry.objects("counters")],
        see=entry.values("see", lambda n: type(n) is int and 0 <= n < n_see, "number of an output in `see`"),
        segments=[{"len": s.number("len"), "offset": s.number("offset")} for s in entry.objects("segments")],
        verdict=entry.text("verdict", ""),
    )


def _packet(entry: _Object) -> Packet:
    try:
        data = bytes.fromhex(entry.text("hex"))
    except ValueError:
        raise _WrongError(f"{entry.path}.hex is not hexadecimal") from None
    gso = entry.object("gso", {"type": "", "size": 0})
    return Packet(
        link=entry.choice("link", LINKS),
        data=data,
        origin=entry.choice("origin", ORIGINS),
        length=entry.number("len"),
        gso_type=gso.text("type"),
        gso_size=gso.number("size"),
        checksum_promised=entry.get("checksum_promised", bool, False),
    )


def _check(entry: _Object) -> Check:
    return Check(entry.text("name"), entry.get("ok", bool), _clean(entry.get("args", dict, {})))


def _counter(entry: _Object) -> Counter:
    return Counter(entry.text("in"), entry.text("name"), entry.number("before"), entry.number("after"))


def _outcome(entry: _Object) -> Outcome:
    at = entry.object("at", {"where": "", "place": ""})
    counters = [_counter(entry.object("counter"))] if entry.get("counter", dict, {}) else []
    return Outcome(
        kind=entry.choice("kind", ("answered", "arrived", "died")),
        where=at.text("where"),
        place=at.text("place"),
        verdict=entry.text("verdict", ""),
        reason=entry.text("reason", ""),
        args=_clean(entry.get("args", dict, {})),
        counter=counters[0] if counters else None,
        rtt_us=entry.seconds("rtt_us"),
    )


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int and n >= 0 for n in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _clean(value: Any) -> Any:
    """JSON without control characters in its texts."""
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean_text(str(key)): _clean(item) for key, item in value.items()}
    return value


def _clean_text(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[:MAX_TEXT])
