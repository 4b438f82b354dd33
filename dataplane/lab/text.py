"""Text for a terminal: colours where there is a terminal, and a walk as a table."""

import os
import sys
from collections.abc import Iterable, Iterator

from dataplane.lab.walk import Change, Step, Walk

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Select Graphic Rendition codes (ECMA-48 8.3.117)."""

WIDTH = 96
"""Columns that the output keeps to."""

INDENT = 19
"""Columns before the fields of a header."""

KIND_COLOURS = {"+": GREEN, "~": YELLOW}


def paint(code: str, text: str) -> str:
    """`text` in a colour or weight, if stdout is a terminal and the user did not say NO_COLOR."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return f"\033[{code}m{text}\033[0m"
    return text


def walk_lines(walk: Walk) -> Iterator[str]:
    """A walk for people: a line for each point, and below it the headers that changed there."""
    start = next(step.frame.time_ns for step in walk.steps if step.frame)
    for number, step in enumerate(walk.steps, 1):
        yield _point_line(number, step, start)
        gone = [change.header for change in step.changes if change.kind == "-"]
        if gone:
            yield paint(RED, f"       - {', '.join(gone)}")
        for change in step.changes:
            if change.kind != "-":
                yield from _change_lines(change)
    if not walk.arrived:
        last = next(step.point for step in reversed(walk.steps) if step.frame)
        yield paint(RED, f"     lost: last seen on {last.place}, device {last.device}")


def _point_line(number: int, step: Step, start_ns: int) -> str:
    arrow = "→" if step.point.outgoing else "←"
    where = paint(BOLD, f"{step.point.place:8} {arrow} {step.point.device:15}")
    if step.frame is None:
        return f"{number:3}  {where} {paint(RED, 'not seen')}"
    after = f"{(step.frame.time_ns - start_ns) / 1000:7.0f} µs"
    return f"{number:3}  {where} {after}  {paint(DIM, step.point.note)}"


def _change_lines(change: Change) -> Iterator[str]:
    head = paint(KIND_COLOURS[change.kind], f"       {change.kind} {change.header:8}")
    for line in _filled([f"{name} {value}" for name, value in change.fields.items()], WIDTH - INDENT):
        yield f"{head}  {line}"
        head = " " * (INDENT - 2)


def _filled(items: Iterable[str], width: int) -> Iterator[str]:
    """The items, two spaces apart, in lines of at most `width` characters; no item is broken."""
    line = ""
    for item in items:
        if line and len(line) + 2 + len(item) > width:
            yield line
            line = item
        else:
            line = f"{line}  {item}" if line else item
    if line:
        yield line
