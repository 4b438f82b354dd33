"""Brings a lab to a known state: an exercise's start, or what stands after one of its steps."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

from dataplane.lab import inside, raising, state
from dataplane.lab.netns import LabError
from dataplane.lab.raising import Request
from dataplane.lab.teaching import acting
from dataplane.lab.teaching.exercise import FILES, Exercise, find, load
from dataplane.lab.teaching.progress import Current, Progress, is_exercise
from dataplane.text import listed

Say = Callable[[str], None]

ACT_SECONDS = 180.0
"""How long the commands of a step, and the checks after them, may take in all."""

DEFAULT_SEED = 0


def start(exercise: Exercise, lab_name: str, seed: int, work: Path, say: Say, *, fresh_files: bool = False) -> None:
    """Make the lab of an exercise and bring it to its start. The lab of another exercise goes. Raises LabError.

    The student's own files stay as they are; with `fresh_files` changed ones are kept as NAME.bak, NAME.bak2, ...
    """
    missing = [program for program in exercise.needs if shutil.which(program) is None]
    if missing:
        raise LabError(f"{exercise.directory.name} needs {listed(missing)}, which is not installed here")
    for lab in state.labs():
        if lab.name == lab_name:
            if not is_exercise(lab):
                raise LabError(
                    f"lab {lab_name} stands, and no exercise made it; take it down first: udplane lab down --lab "
                    f"{lab_name}, or name another one by --lab"
                )
            lab.end()
    own = _own_files(exercise, work, fresh=fresh_files)
    request = Request(exercise.topology_file, lab_name, seed or None, exercise.engine.replace("{work}", own), stay=True)
    raising.raise_lab(request, say)
    lab = state.find(lab_name)
    try:
        Current(str(exercise.directory), seed, own).save(lab)
        say("the state in which the exercise begins")
        _act(lab, acting.START)
    except BaseException:
        lab.end()
        raise
    progress = Progress.of(exercise.directory.name)
    progress.begin(seed)
    progress.save()


def reset(lab: state.Lab, say: Say) -> Exercise:
    """Bring the lab back to the start of its exercise; what the student has changed in files is kept beside them."""
    current = Current.of(lab)
    exercise = load(Path(current.directory))
    work = Path(current.work).parent if current.work else Path()
    start(exercise, lab.name, current.seed, work, say, fresh_files=True)
    return exercise


def solve(lab: state.Lab, step: int, say: Say, *, anew: bool = False) -> Exercise:
    """Bring the lab to what stands after `step`: from where it is if all steps before are solved, else from the start.

    Raises LabError when that cannot be reached.
    """
    exercise = exercise_of(lab)
    first = step
    if anew or Progress.of(exercise.directory.name).done != list(range(1, step)):
        reset(lab, say)
        lab, first = state.find(lab.name), 1
    progress = Progress.of(exercise.directory.name)
    for number in range(first, step + 1):
        say(f"step {number}: {exercise.steps[number - 1].title}")
        answers = _act(lab, f"{acting.SOLVE}{number}")
        progress.answers |= answers
        progress.shown, progress.done = sorted({*progress.shown, number}), list(range(1, number + 1))
        progress.save()
    return exercise


def exercise_of(lab: state.Lab, name: str = "") -> Exercise:
    """The exercise of a lab, which is the one called `name` if that is given. Raises LabError."""
    exercise = load(Path(Current.of(lab).directory))
    if name and find(name).directory != exercise.directory:
        raise LabError(
            f"lab {lab.name} is for exercise {exercise.directory.name}; `udplane lab start {name}` begins the other one"
        )
    return exercise


def _own_files(exercise: Exercise, work: Path, *, fresh: bool) -> str:
    """Give the student the files of the exercise, in a directory that is returned; empty where there are none."""
    source = exercise.directory / FILES
    if not source.is_dir():
        return ""
    own = (work / f"lab-{exercise.directory.name}").absolute()
    try:
        own.mkdir(exist_ok=True)
        for file in sorted(source.iterdir()):
            if not (own / file.name).exists():
                shutil.copyfile(file, own / file.name)
            elif fresh and not filecmp.cmp(file, own / file.name, shallow=False):
                (own / file.name).replace(_free_name(own / f"{file.name}.bak"))
                shutil.copyfile(file, own / file.name)
    except OSError as error:
        raise LabError(f"cannot put the exercise's files into {own}: {error.strerror}; name another --work") from error
    return str(own)


def _free_name(file: Path) -> Path:
    """The name itself, or with the first number behind it that no file has: nothing that a student wrote is lost."""
    numbered = (file.with_name(f"{file.name}{number}") for number in count(2))
    return next(name for name in chain([file], numbered) if not name.exists())


def _act(lab: state.Lab, what: str) -> dict[str, str]:
    """Run commands of the exercise inside of the lab; returns the right answers of a step."""
    command = [sys.executable, "-I", "-m", acting.MODULE, lab.name, what]
    done = subprocess.run(
        inside.command_line(lab, command),
        env=inside.environment(lab),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=ACT_SECONDS,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise LabError(lines[-1].removeprefix("udplane: "))
    answers: dict[str, str] = json.loads(done.stdout)
    return answers
