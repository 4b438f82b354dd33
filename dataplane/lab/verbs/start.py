"""`udplane lab start`: begin an exercise, or list them."""

import argparse
import json
from pathlib import Path

from dataplane.lab import keep, state
from dataplane.lab.teaching import classroom
from dataplane.lab.teaching.exercise import Exercise, directories, find, load
from dataplane.lab.teaching.progress import Progress
from dataplane.lab.teaching.words import overview, step_lines
from dataplane.lab.verbs.common import add_lab, called, named, say

HELP = "begin exercise N; without N, list the exercises"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and with which addresses."""
    add_lab(parser)
    parser.add_argument(
        "exercise", nargs="?", metavar="N", help="a number, a name, or the directory of an exercise of your own"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="other addresses and numbers, so other answers"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(), metavar="DIR", help="where files to work on are put (default: here)"
    )
    parser.add_argument("--json", action="store_true", help="the list as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Make the lab, bring it to its start, and say what to do first."""
    if arguments.exercise is None:
        exercises = [load(path) for path in directories()]
        print(json.dumps([document(one) for one in exercises], indent=1) if arguments.json else overview(exercises))
        return 0
    exercise = find(arguments.exercise)
    name = arguments.lab or named()
    keep.end_on_signals()
    classroom.start(exercise, name, arguments.seed, arguments.work, say)
    say("")
    print(f"{exercise.title} ({exercise.minutes} min)\n{exercise.goal}\n")
    print("\n".join(step_lines(exercise, 1, state.find(name))))
    print(f"\nThe whole text: {exercise.directory / 'text.md'}")
    udplane = called()
    print(
        f"Look around: {udplane} lab status, {udplane} lab shell node1. Then: {udplane} lab check, {udplane} lab hint."
    )
    return 0


def document(exercise: Exercise) -> dict[str, object]:
    """An exercise of the list, as JSON has it."""
    progress = Progress.of(exercise.directory.name)
    return {
        "number": exercise.number,
        "name": exercise.name,
        "title": exercise.title,
        "goal": exercise.goal,
        "minutes": exercise.minutes,
        "without_linux": exercise.without_linux,
        "steps": [{"title": step.title, "text": step.text, "hints": len(step.hints)} for step in exercise.steps],
        "solved": progress.done,
        "text": exercise.text,
    }
