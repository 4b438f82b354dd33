"""What a student has done so far: kept outside of the labs, so that it outlives them.

/tmp/udplane-lab-1000/.progress/03-follow-a-ping.json      one file an exercise
/tmp/udplane-lab-1000/default/exercise.json                which exercise a lab is for; gone with the lab
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataplane import clock
from dataplane.lab import state
from dataplane.lab.netns import LabError

DIRECTORY = ".progress"
CURRENT = "exercise.json"
MOST_CHECKS = 500
"""Results that are remembered of an exercise."""


@dataclass(slots=True)
class Progress:
    """One student and one exercise."""

    exercise: str
    """Name of its directory."""
    seed: int = 0
    started: float = 0
    """Seconds since 1970, as all times here."""
    attempts: int = 0
    """How often it was checked."""
    solved: dict[str, float] = field(default_factory=dict)
    """Number of a step -> when its checks passed first."""
    done: list[int] = field(default_factory=list)
    """Steps that are solved since the exercise began or was reset: a later step may undo what an earlier one asked."""
    shown: list[int] = field(default_factory=list)
    """Steps that `solve` has solved."""
    hints: dict[str, int] = field(default_factory=dict)
    """Number of a step -> hints opened."""
    answers: dict[str, str] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    """Each run of the checks: when, step, and how many passed of how many."""

    def begin(self, seed: int) -> None:
        """The exercise begins, for the first time or again; what was solved before is not forgotten."""
        self.seed, self.answers, self.done = seed, {}, []
        self.started = self.started or clock.time_of_day(clock.now())

    def note(self, step: int, passed: int, of: int) -> None:
        """The checks of a step have run."""
        self.attempts += 1
        now = round(clock.time_of_day(clock.now()), 1)
        self.checks = [*self.checks, {"time": now, "step": step, "passed": passed, "of": of}][-MOST_CHECKS:]
        if passed == of:
            self.solved.setdefault(str(step), now)
            self.done = sorted({*self.done, step})

    def save(self) -> None:
        """Write it, whole or not at all. Raises LabError where that cannot be done."""
        file = _file(self.exercise)
        fresh = file.with_suffix(".new")
        try:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            fresh.write_text(json.dumps(asdict(self), indent=1))
            fresh.rename(file)
        except OSError as error:
            raise LabError(f"what you have done cannot be noted in {file}: {error.strerror}") from error

    @classmethod
    def of(cls, exercise: str) -> Progress:
        """What is known of an exercise; nothing if it was not begun, or if the file is damaged."""
        try:
            return cls.from_document(json.loads(_file(exercise).read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls(exercise)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Progress:
        """Read what `save` wrote. Raises TypeError or ValueError for anything else."""
        progress = cls(**document)
        for name, kind in _KINDS.items():
            if not isinstance(getattr(progress, name), kind):
                raise TypeError(f"{name} is of another kind")
        return progress


_KINDS = {
    "exercise": str,
    "seed": int,
    "started": int | float,
    "attempts": int,
    "solved": dict,
    "done": list,
    "shown": list,
    "hints": dict,
    "answers": dict,
    "checks": list,
}


@dataclass(frozen=True, slots=True)
class Current:
    """What a lab is for."""

    directory: str
    """Of the exercise."""
    seed: int
    work: str
    """Directory of the student's own files; empty where the exercise has none."""
    baseline: Mapping[str, int] = field(default_factory=dict)
    """Counters of all nodes when the exercise began."""

    def save(self, lab: state.Lab) -> None:
        """Note it with the lab."""
        (lab.directory / CURRENT).write_text(json.dumps(asdict(self)))

    @classmethod
    def of(cls, lab: state.Lab) -> Current:
        """The exercise of a lab. Raises LabError when there is none."""
        try:
            return cls(**json.loads((lab.directory / CURRENT).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise LabError(
                f"lab {lab.name} is no exercise; `udplane lab start N` begins one, `udplane lab start` lists them"
            ) from error


def is_exercise(lab: state.Lab) -> bool:
    """Whether an exercise has made the lab."""
    return (lab.directory / CURRENT).exists()


def all_progress() -> list[Progress]:
    """All exercises that this user has begun."""
    directory = state.base_directory() / DIRECTORY
    return [Progress.of(file.stem) for file in sorted(directory.glob("*.json"))]


def _file(exercise: str) -> Path:
    return state.base_directory() / DIRECTORY / f"{exercise}.json"
