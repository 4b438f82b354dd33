"""`udplane lab report`: what was done, for the student and for a class."""

import argparse
import csv
import getpass
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataplane.errors import UsageError
from dataplane.lab.teaching.progress import Progress, all_progress
from dataplane.text import table

HELP = "exercises, solved steps, hints and checks; of a class from the students' files"

COLUMNS = ("student", "exercise", "seed", "started", "solved", "shown", "hints", "checks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, and in which form."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="what students have made by `report --json > NAME.json`"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all that is known, to hand in")
    form.add_argument("--csv", action="store_true", help="a line for each student and exercise")
    parser.add_argument("--student", default="", metavar="NAME", help="who this is (default: the user's name)")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    own = {"student": arguments.student or getpass.getuser(), "exercises": [asdict(one) for one in all_progress()]}
    reports = [read(file) for file in arguments.files] or [own]
    if arguments.json:
        print(json.dumps(reports if arguments.files else own, indent=1))
        return 0
    rows = [row(report["student"], Progress.from_document(one)) for report in reports for one in report["exercises"]]
    if arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([COLUMNS, *(map(harmless, cells) for cells in rows)])
    elif rows:
        print(table([tuple(name.upper() for name in COLUMNS), *rows]), end="")
    else:
        print("no exercise has begun; `udplane lab start` lists them")
    return 0


def row(student: str, progress: Progress) -> tuple[str, ...]:
    """A student and an exercise as text."""
    begun = datetime.fromtimestamp(progress.started, UTC).strftime("%Y-%m-%d %H:%M")
    started = begun if progress.started else "-"
    steps = " ".join(sorted(progress.solved, key=int))
    shown, hints = " ".join(map(str, progress.shown)), str(sum(progress.hints.values()))
    return student, progress.exercise, str(progress.seed), started, steps, shown, hints, str(progress.attempts)


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in "=+-@\t\r" and cell[:1] else cell


def read(file: Path) -> dict[str, Any]:
    """A student's report. Raises UsageError for any other file."""
    try:
        document = json.loads(file.read_bytes())
        if not isinstance(document["student"], str):
            raise TypeError("student is no text")
        for one in document["exercises"]:
            row(document["student"], Progress.from_document(one))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UsageError(
            f"{file} is no report ({error}); a student makes one by `udplane lab report --json`"
        ) from error
    return dict(document)
