"""`udplane lab check`: is the exercise solved?"""

import argparse
import json
from dataclasses import asdict

from dataplane.errors import UsageError
from dataplane.lab.inside import move_in
from dataplane.lab.netns import LabError
from dataplane.lab.teaching import classroom
from dataplane.lab.teaching.checks import Finding, room_of, run_step
from dataplane.lab.teaching.exercise import Exercise
from dataplane.lab.teaching.progress import Current, Progress
from dataplane.lab.teaching.words import finding_lines, solved_lines, step_lines
from dataplane.lab.verbs.common import add_lab

LONGEST_ANSWER = 100

HELP = "check the exercise, up to the first step that is not solved; exit status 0 when all are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which step, and answers to its questions."""
    add_lab(parser)
    parser.add_argument("exercise", nargs="?", default="", metavar="N", help="the exercise that is to stand there")
    parser.add_argument("--step", type=int, default=0, metavar="K", help="this step alone")
    parser.add_argument(
        "--answer", action="append", default=[], metavar="NAME=TEXT", help="answer a question; kept for later checks"
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, remember, and say what was found."""
    lab, _ = move_in(arguments.lab)
    exercise = classroom.exercise_of(lab, arguments.exercise)
    progress = Progress.of(exercise.directory.name)
    progress.answers |= answers_of(arguments.answer, exercise)
    room = room_of(lab, exercise, Current.of(lab), progress.answers)
    found: dict[int, list[Finding]] = {}
    for number in numbers(arguments.step, exercise):
        if number in progress.done and not arguments.step:
            continue
        found[number] = run_step(exercise.steps[number - 1], room)
        passed = sum(finding.ok for finding in found[number])
        progress.note(number, passed, len(found[number]))
        if passed < len(found[number]):
            break
    progress.save()
    if arguments.json:
        document = {str(number): [asdict(finding) for finding in findings] for number, findings in found.items()}
        print(json.dumps({"exercise": exercise.directory.name, "steps": document}, indent=1))
    else:
        before = [] if arguments.step else [number for number in progress.done if number not in found]
        print("\n".join([*solved_lines(exercise, before), *finding_lines(exercise, found)]))
        last = max(found, default=0)
        if len(progress.done) == len(exercise.steps) and not arguments.step:
            print("\nAll of it is solved.")
        elif last and not all(finding.ok for finding in found[last]):
            print("\n" + "\n".join(step_lines(exercise, last, lab)))
    return 0 if all(finding.ok for findings in found.values() for finding in findings) else 1


def numbers(step: int, exercise: Exercise) -> range:
    """The steps to check. Raises UsageError."""
    if step == 0:
        return range(1, len(exercise.steps) + 1)
    if not 1 <= step <= len(exercise.steps):
        raise UsageError(f"exercise {exercise.directory.name} has the steps 1 to {len(exercise.steps)}, no {step}")
    return range(step, step + 1)


def answers_of(given: list[str], exercise: Exercise) -> dict[str, str]:
    """The answers by name. Raises UsageError or LabError for what no question asks."""
    names = [check.values["name"] for step in exercise.steps for check in step.checks if check.kind_name == "answer"]
    answers = {}
    for text in given:
        name, equals, answer = text.partition("=")
        if not equals:
            raise UsageError(f"--answer {text}: write NAME=TEXT, such as --answer ttl=60")
        if name not in names:
            raise LabError(f"no question here is called {name}; there are {', '.join(names) or 'none'}")
        answers[name] = answer[:LONGEST_ANSWER]
    return answers
