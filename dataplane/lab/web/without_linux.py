"""The exercises that need no lab, as a page gets them: what a standing lab would tell is in their recorded walks.

Names in texts and answers, such as `{node1.ip}`, are those of the first recording's lab, with the numbers that seed 0
chooses; so a teacher records a walk in a lab that `udplane lab start N` has made. Right answers are in the page only
as hashes, and hints only veiled: that keeps honest people honest, and nobody else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataplane.lab import golden, recording_file
from dataplane.lab.netns import LabError
from dataplane.lab.teaching.classroom import DEFAULT_SEED
from dataplane.lab.teaching.exercise import Exercise, Step, directories, load
from dataplane.lab.teaching.kinds import answers
from dataplane.lab.teaching.kinds.base import Check
from dataplane.lab.teaching.variables import Variables, chosen
from dataplane.lab.view import FILE, VERSION, LabView

WALKS = "walk*.json"
"""The recorded walks of an exercise, in its directory."""

GOLDEN = "golden"
"""The kind of check that the page does by itself, in Python for browsers."""

SOLUTION = re.compile(r"\{exercise\}/([\w./-]+)")
"""A file of the exercise that a hint names."""


def exercises() -> list[dict[str, Any]]:
    """All of them. Raises LabError or ConfigError that names the file at fault."""
    return [document(one) for one in map(load, directories()) if one.without_linux]


def document(exercise: Exercise) -> dict[str, Any]:
    """An exercise, with its walks under `walks`."""
    walks = [recording_file.load(file).document() for file in sorted(exercise.directory.glob(WALKS))]
    variables = _variables(exercise, walks)
    return {
        "number": exercise.number,
        "name": exercise.name,
        "title": exercise.title,
        "goal": exercise.goal,
        "minutes": exercise.minutes,
        "text": exercise.text,
        "walks": walks,
        "steps": [dict(_step(exercise, number, variables)) for number in range(1, len(exercise.steps) + 1)],
    }


def _variables(exercise: Exercise, walks: list[dict[str, Any]]) -> Variables:
    """What names stand for: in the recording's lab, or in none, where an exercise has no recording."""
    lab = (
        walks[0]["lab"] if walks else {"name": "", "network": {}, "nodes": [], "pods": [], "hosts": [], "segments": []}
    )
    head = {"format": "udplane-lab", "version": VERSION, "directory": "", "store": ""}
    try:
        view = LabView.from_document({**head, **lab})
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{exercise.directory / WALKS}: its lab is none that {FILE} could describe: {error}") from error
    return Variables(view, Path(), chosen(exercise.vary, DEFAULT_SEED), Path(exercise.directory.name))


def _step(exercise: Exercise, number: int, variables: Variables) -> Iterator[tuple[str, Any]]:
    step = exercise.steps[number - 1]
    yield "title", _filled(step.title, variables)
    yield "text", _filled(step.text, variables)
    yield "hints", [veiled(_filled(hint, variables) + _shown(exercise, hint)) for hint in step.hints]
    yield "checks", [_check(exercise, number, check, variables) for check in _in_order(step)]


def _filled(text: str, variables: Variables) -> str:
    """A text with its names replaced; the student's files are where the student is."""
    return variables.fill(text).replace(f"{variables.work}/", "")


def _in_order(step: Step) -> list[Check]:
    """What can be done here comes first."""
    return sorted(step.checks, key=lambda check: check.kind_name not in (answers.KIND, GOLDEN))


def _shown(exercise: Exercise, hint: str) -> str:
    """The text of a file that a hint names, since here nobody can open it."""
    named = SOLUTION.search(hint)
    file = exercise.directory / named[1] if named else None
    return f"\n\n```\n{file.read_text('utf-8')}```" if file and file.is_file() else ""


def _check(exercise: Exercise, number: int, check: Check, variables: Variables) -> dict[str, Any]:
    """A check; of the kinds that look into a lab only what they say."""
    found: dict[str, Any] = {
        "kind": check.kind_name,
        "say": check.title(variables),
        "look": _filled(check.look, variables),
    }
    if check.kind_name == GOLDEN:
        match = check.values["match"]
        found["cases"] = [case.name for case in golden.cases() if re.search(match, case.name)]
    elif check.kind_name == answers.KIND:
        name = check.values["name"]
        salt = f"{exercise.directory.name} {number} {name}"
        found |= {"name": name, "salt": salt, "is": [hashed(salt, text) for text in _texts(check, variables)]}
        found["wrong"] = dict(_wrong(salt, variables.fill_all(check.values["wrong"])))
    return found


def _texts(check: Check, variables: Variables) -> list[str]:
    return [variables.fill(text) for text in check.values["is"]]


def _wrong(salt: str, hints: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for text, hint in hints.items():
        yield hashed(salt, text), veiled(hint)


def hashed(salt: str, answer: str) -> str:
    """What the page compares with the hash of what a student says."""
    return hashlib.sha256(f"{salt}\n{answers.plain(answer)}".encode()).hexdigest()


def veiled(text: str) -> str:
    """A text that nobody reads in passing."""
    return base64.b64encode(text.encode()).decode()
