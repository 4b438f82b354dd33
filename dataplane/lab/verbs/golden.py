"""`udplane lab golden`: hold an engine of one's own to the golden packets."""

import argparse
import json
from pathlib import Path

from dataplane.engines.own import OwnError
from dataplane.lab import golden
from dataplane.lab.golden import Result
from dataplane.lab.netns import LabError
from dataplane.lab.text import BOLD, GREEN, RED, paint

HELP = "hold an engine of your own to the golden packets: golden mine.py"

SHOWN = 3
"""Failures that are shown with their bytes; the others are named."""

ROW = 20
"""Bytes of a line: an IPv4 header."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose."""
    parser.add_argument("file", type=Path, metavar="FILE.py", help="a file with a class Engine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--template", action="store_true", help="write an empty one to FILE.py to begin with")


def run(arguments: argparse.Namespace) -> int:
    """Judge and tell; exit status 1 unless all pass."""
    if arguments.template:
        return _write_template(arguments.file)
    try:
        results = list(golden.judge(arguments.file.absolute()))
    except OwnError as error:
        raise LabError(str(error)) from error
    failed = [result for result in results if not result.passed]
    if arguments.json:
        print(json.dumps([result.document() for result in results], indent=1))
        return 1 if failed else 0
    for number, result in enumerate(failed):
        print("\n".join(lines(result, with_bytes=number < SHOWN)))
    count = f"{len(results) - len(failed)} of {len(results)} golden packets are right"
    print(paint(RED if failed else GREEN, count))
    return 1 if failed else 0


def _write_template(file: Path) -> int:
    text = Path(golden.__file__).with_name("engine_template.txt").read_text("utf-8")
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(text)
    except OSError as error:
        raise LabError(f"cannot write {file}: {error.strerror}") from error
    print(f"{file} is yours; `udplane lab golden {file}` judges it")
    return 0


def lines(result: Result, *, with_bytes: bool) -> list[str]:
    """A failure for people."""
    case = result.case
    head = [f"{paint(RED, '✗')} {paint(BOLD, case.name)}", f"  {case.direction} {case.input}"]
    if not result.ranges:
        return [*head, f"  expected {result.expected}, got {result.got}", f"  {result.rule}"]
    where = ", ".join(f"{at}" if length == 1 else f"{at} to {at + length - 1}" for at, length in result.ranges)
    shown = [*head, f"  {result.rule}", f"  different: byte {where}"]
    return shown + (_rows(result) if with_bytes else [])


def _rows(result: Result) -> list[str]:
    """The rows in which bytes differ, expected over got, with a mark below each byte that does."""
    expected, got = bytes.fromhex(result.expected), bytes.fromhex(result.got)
    rows = []
    for start in range(0, max(len(expected), len(got)), ROW):
        right, own = expected[start : start + ROW], got[start : start + ROW]
        if right != own:
            marks = "".join("^^ " if right[i : i + 1] != own[i : i + 1] else "   " for i in range(ROW)).rstrip()
            rows += [f"  {start:4} expected  {right.hex(' ')}", f"       got       {own.hex(' ')}", f"{'':17}{marks}"]
    return rows
