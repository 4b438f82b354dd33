"""`udplane lab hint`: help, a little at a time."""

import argparse
import json

from dataplane.lab import state
from dataplane.lab.teaching import classroom
from dataplane.lab.teaching.progress import Progress
from dataplane.lab.teaching.words import filled
from dataplane.lab.verbs.check import numbers
from dataplane.lab.verbs.common import add_lab

HELP = "the next hint for the step in hand; the later, the more they tell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For which step."""
    add_lab(parser)
    parser.add_argument("--step", type=int, default=0, metavar="K", help="another step than the first unsolved one")
    parser.add_argument("--json", action="store_true", help="all hints opened so far as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Open one more, and remember that."""
    lab = state.find(arguments.lab)
    exercise = classroom.exercise_of(lab)
    progress = Progress.of(exercise.directory.name)
    unsolved = [number for number in range(1, len(exercise.steps) + 1) if number not in progress.done]
    step = numbers(arguments.step, exercise)[0] if arguments.step else (unsolved or [len(exercise.steps)])[0]
    hints = exercise.steps[step - 1].hints
    opened = min(progress.hints.get(str(step), 0) + 1, len(hints))
    progress.hints[str(step)] = opened
    progress.save()
    shown = [filled(hint, exercise, lab) for hint in hints[:opened]]
    if arguments.json:
        print(json.dumps({"step": step, "hints": shown, "of": len(hints)}, indent=1))
        return 0
    print(f"Step {step}, hint {opened} of {len(hints)}: {shown[-1]}")
    if opened == len(hints):
        print(f"That was the last one. To be brought to the state after this step: udplane lab solve --step {step}")
    return 0
