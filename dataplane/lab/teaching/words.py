"""What the verbs about exercises print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from dataplane.lab import state
from dataplane.lab.netns import LabError
from dataplane.lab.teaching.checks import Finding, room_of
from dataplane.lab.teaching.exercise import Exercise
from dataplane.lab.teaching.progress import Current, Progress
from dataplane.lab.text import BOLD, DIM, GREEN, RED, paint
from dataplane.text import table

WIDTH = 100


def overview(exercises: Sequence[Exercise]) -> str:
    """All exercises, a line each."""
    rows = [("N", "MIN", "SOLVED", "EXERCISE")]
    for one in exercises:
        solved = len(Progress.of(one.directory.name).solved)
        rows.append((str(one.number), str(one.minutes), f"{solved} of {len(one.steps)}", one.title))
    return table(rows) + "\nBegin one: udplane lab start N"


def step_lines(exercise: Exercise, number: int, lab: state.Lab) -> Iterator[str]:
    """What to do in a step."""
    step = exercise.steps[number - 1]
    yield paint(BOLD, f"Step {number} of {len(exercise.steps)}: {step.title}")
    for paragraph in filled(step.text, exercise, lab).strip("\n").split("\n\n"):
        yield ""
        yield from [paragraph] if paragraph.startswith("    ") else textwrap.wrap(paragraph, WIDTH)


def solved_lines(exercise: Exercise, steps: Sequence[int]) -> Iterator[str]:
    """Steps that were solved before."""
    for number in steps:
        yield paint(BOLD, f"Step {number}: {exercise.steps[number - 1].title}") + paint(GREEN, "  ✓ solved")


def finding_lines(exercise: Exercise, found: Mapping[int, Sequence[Finding]]) -> Iterator[str]:
    """What was found, check by check; of those that pass only that they do."""
    for number, findings in found.items():
        yield paint(BOLD, f"Step {number}: {exercise.steps[number - 1].title}")
        for finding in findings:
            mark = paint(GREEN, "✓") if finding.ok else paint(RED, "✗")
            yield f"  {mark} {finding.say}"
            if not finding.ok and finding.expected:
                yield f"      expected  {finding.expected}"
            if not finding.ok:
                yield f"      got       {finding.got}"
            if not finding.ok and finding.hint:
                yield f"      {finding.hint}"
            if not finding.ok and finding.look:
                yield paint(DIM, f"      look at   {finding.look}")


def filled(text: str, exercise: Exercise, lab: state.Lab) -> str:
    """A text with its names replaced, or as it is where the lab has something else."""
    try:
        return room_of(lab, exercise, Current.of(lab), {}).variables.fill(text)
    except (LabError, OSError):
        return text
