"""Every exercise that comes with udplane, through its whole life, by the command line as a student would.

The start fails its checks; the state after each step passes that step's and not yet the next one's; reset brings the
start back; no answer, however wrong, ends in anything but a finding. `UDPLANE_LAB_SEEDS=3` does it with three seeds.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.teaching import classroom
from dataplane.lab.teaching.exercise import Exercise, directories, find, load
from dataplane.lab.teaching.kinds.base import Check
from tests.lab import labs as own
from tests.lab.labs import Labs

SEEDS = range(int(os.environ.get("UDPLANE_LAB_SEEDS", "1")))
EXERCISES = [load(path) for path in directories()]


@pytest.fixture
def labs(tun_device: None, namespaces: None) -> Iterator[Labs]:
    with own.labs() as found:
        yield found


def findings(labs: Labs, *arguments: str) -> dict[str, list[dict[str, object]]]:
    """What a check says, by step."""
    done = labs.run("check", "--json", *arguments, status=None)
    assert done.returncode in (0, 1), done.stderr
    steps: dict[str, list[dict[str, object]]] = json.loads(done.stdout)["steps"]
    assert done.returncode == (0 if all(one["ok"] for found in steps.values() for one in found) else 1)
    return steps


def solved(labs: Labs, step: int) -> bool:
    return all(one["ok"] for one in findings(labs, "--step", str(step))[str(step)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.directory.name)
def test_the_life_of_an_exercise(exercise: Exercise, seed: int, labs: Labs, tmp_path: Path) -> None:
    missing = [program for program in exercise.needs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    work = tmp_path / "my wörk"
    work.mkdir()
    labs.run("start", exercise.directory.name, "--seed", str(seed), "--work", str(work))
    assert not solved(labs, 1)
    for number in range(1, len(exercise.steps) + 1):
        done = labs.run("solve", "--step", str(number))
        assert not re.search(r"\{[a-z0-9]+\.", done.stdout), done.stdout
        assert solved(labs, number), findings(labs, "--step", str(number))
        assert number == len(exercise.steps) or not solved(labs, number + 1)
    assert "All of it is solved." in labs.run("check").stdout
    if seed:
        labs.run("solve", "--anew")
        assert solved(labs, len(exercise.steps))
    labs.run("reset")
    wrong = [f"--answer={check.values['name']}=-1" for check in answers(exercise)]
    assert not solved(labs, 1)
    assert findings(labs, *wrong).keys() == {"1"}
    assert "hint 1 of" in labs.run("hint").stdout
    labs.run("down")


def answers(exercise: Exercise) -> list[Check]:
    return [check for step in exercise.steps for check in step.checks if check.kind_name == "answer"]


def test_an_exercise_says_what_a_teacher_has_to_know() -> None:
    assert [exercise.number for exercise in EXERCISES] == list(range(1, len(EXERCISES) + 1))
    for exercise in EXERCISES:
        assert len(exercise.goal) < 200, exercise.name
        assert exercise.text.startswith("# "), exercise.name
        assert all(len(step.hints) >= 2 for step in exercise.steps), exercise.name
        for step in exercise.steps:
            assert all(check.look for check in step.checks), f"{exercise.name}: {step.title}"


def test_nothing_that_a_student_has_written_is_lost(tmp_path: Path) -> None:
    exercise = find("14")
    own = Path(classroom._own_files(exercise, tmp_path, fresh=False))
    for text in ("one", "two"):
        (own / "host_local.py").write_text(text)
        classroom._own_files(exercise, tmp_path, fresh=True)
    given = (exercise.directory / "files/host_local.py").read_text()
    assert [(own / f"host_local.py{end}").read_text() for end in ("", ".bak", ".bak2")] == [given, "one", "two"]
