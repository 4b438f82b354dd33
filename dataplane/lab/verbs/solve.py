"""`udplane lab solve`: the state after a step, for those who fell behind."""

import argparse

from dataplane.lab import keep, state
from dataplane.lab.teaching import classroom
from dataplane.lab.teaching.words import filled
from dataplane.lab.verbs.check import numbers
from dataplane.lab.verbs.common import add_lab, say

HELP = "bring the exercise to the state after step K, by default after the last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Up to which step."""
    add_lab(parser)
    parser.add_argument("--anew", action="store_true", help="from the start, even where the steps before are solved")
    parser.add_argument("--step", type=int, default=0, metavar="K", help="up to this step")


def run(arguments: argparse.Namespace) -> int:
    """Run the solutions that are missing, in a lab made anew where that is needed."""
    lab = state.find(arguments.lab)
    exercise = classroom.exercise_of(lab)
    step = numbers(arguments.step, exercise)[0] if arguments.step else len(exercise.steps)
    keep.end_on_signals()
    classroom.solve(lab, step, say, anew=arguments.anew)
    lab = state.find(lab.name)
    say("")
    print(f"{exercise.title}: as after step {step}. What was done:")
    for number, done in enumerate(exercise.steps[:step], 1):
        print(f"  {number}. {done.title}")
        for command in done.solve:
            print(f"     {command.where or 'the lab'}: {filled(command.run, exercise, lab)}")
    return 0
