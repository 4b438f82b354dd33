"""Runs the checks of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataplane.lab import state
from dataplane.lab.teaching.exercise import Exercise, Step
from dataplane.lab.teaching.kinds.base import Room
from dataplane.lab.teaching.progress import Current
from dataplane.lab.teaching.variables import Variables, chosen


@dataclass(frozen=True, slots=True)
class Finding:
    """A check with its outcome, all in words."""

    say: str
    ok: bool
    expected: str
    got: str
    look: str
    hint: str

    def __str__(self) -> str:
        return f"{self.say}: expected {self.expected}, got {self.got}"


def room_of(lab: state.Lab, exercise: Exercise, current: Current, answers: Mapping[str, str]) -> Room:
    """What the checks of an exercise look into; made inside of the lab."""
    view = lab.view()
    work = Path(current.work) if current.work else Path()
    variables = Variables(view, work, chosen(exercise.vary, current.seed), exercise.directory)
    return Room(view, variables, answers, current.baseline)


def run_step(step: Step, room: Room) -> list[Finding]:
    """Run all checks of a step, one after the other."""
    findings = []
    for check in step.checks:
        result = check.run(room)
        fill = room.variables.fill
        findings.append(
            Finding(check.title(room.variables), result.ok, result.expected, result.got, fill(check.look), result.hint)
        )
    return findings


def failures(step: Step, room: Room) -> list[Finding]:
    """The checks that do not pass."""
    return [finding for finding in run_step(step, room) if not finding.ok]
