"""Reads an exercise from its directory, strictly: what is wrong is told with file, line and remedy.

title = "Follow a ping"            one line each
goal = "..."
minutes = 15
topology = "two-nodes"             one that comes with udplane, or a file beside this one
needs = ["dnsmasq"]                programs that have to be installed
[vary]                             numbers that the seed chooses: from, to
port = [2000, 2999]
[[start]]                          commands before the first step, at a place of the lab
where = "node1"
run = "sysctl -w net.ipv4.ip_forward=0"
[[steps]]
title = "..."
text = "..."                       what to do, in a few sentences; text.md has the rest
hints = ["...", "...", "..."]      the later, the more they tell
[[steps.solve]]                    commands, as above
[[steps.checks]]
kind = "reachable"                 see `kinds`; the other keys are the kind's
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dataplane.errors import ConfigError, UsageError
from dataplane.lab import strict_toml
from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching import kinds
from dataplane.lab.teaching.kinds.base import Check
from dataplane.lab.teaching.variables import check_names

FILE = "lab.toml"
TEXT, TEACHER = "text.md", "teacher.md"
FILES = "files"
"""Directory of an exercise whose content a student gets, to work on."""

DIRECTORY = re.compile(r"(\d{2})-([a-z0-9-]+)")
LEAST_HINTS = 1


@dataclass(frozen=True, slots=True)
class Command:
    """A command at a place of the lab; at the lab's own namespace where `where` is empty."""

    where: str
    run: str
    place: str
    """file:line."""
    background: bool = False
    """Whether it goes on while the student works."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an exercise."""

    title: str
    text: str
    hints: tuple[str, ...]
    solve: tuple[Command, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Exercise:
    """An exercise. `number` is 0 for one that does not come with udplane."""

    number: int
    name: str
    directory: Path
    title: str
    goal: str
    minutes: int
    topology: str
    engine: str
    vary: Mapping[str, tuple[int, int]]
    start: tuple[Command, ...]
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    """Programs that have to be there."""
    without_linux: bool = False
    """Whether the page can do it anywhere."""

    @property
    def text(self) -> str:
        """What the student reads."""
        return (self.directory / TEXT).read_text("utf-8")

    @property
    def topology_file(self) -> str:
        """The topology as `lab up` takes it."""
        beside = self.directory / self.topology
        return str(beside) if beside.is_file() else self.topology


def packaged() -> Path:
    """Where the exercises are that come with udplane."""
    return Path(str(resources.files("dataplane.lab").joinpath("exercises")))


def directories() -> list[Path]:
    """Those of the exercises that come with udplane, by number."""
    return sorted(path for path in packaged().iterdir() if DIRECTORY.fullmatch(path.name) and (path / FILE).is_file())


def find(name: str) -> Exercise:
    """The exercise of that number or name, or in that directory. Raises UsageError or ConfigError."""
    for path in directories():
        match = DIRECTORY.fullmatch(path.name)
        if match and name in (match[1], str(int(match[1])), match[2], path.name):
            return load(path)
    if (Path(name) / FILE).is_file():
        return load(Path(name).absolute())
    known = ", ".join(path.name for path in directories())
    raise UsageError(f"there is no exercise {name}: give a number, a name or a directory; there are {known}")


def load(directory: Path) -> Exercise:
    """The exercise in a directory. Raises ConfigError that names file, line and remedy."""
    name = directory.name
    whole = strict_toml.read(directory / FILE, f"{name}/{FILE}")
    match = DIRECTORY.fullmatch(name)
    vary = dict(_vary(whole.section("vary")))
    exercise = Exercise(
        number=int(match[1]) if match else 0,
        name=match[2] if match else name,
        directory=directory,
        title=whole.needed("title"),
        goal=whole.needed("goal"),
        minutes=whole.whole_number("minutes", 15, 1, 600),
        topology=whole.text("topology", "two-nodes"),
        engine=whole.text("engine"),
        vary=vary,
        start=tuple(_commands(whole, "start", vary)),
        steps=tuple(_step(section, vary) for section in whole.listed("steps")),
        needs=whole.texts("needs"),
        without_linux=whole.boolean("without_linux", False),
    )
    whole.done()
    if not exercise.steps:
        raise ConfigError(f"{name}/{FILE}: an exercise has steps; write tables [[steps]]")
    for file in (TEXT, TEACHER):
        if not (directory / file).is_file():
            raise ConfigError(f"{name}: {file} is missing; write it beside {FILE}")
    return exercise


def _step(section: Section, vary: Mapping[str, Any]) -> Step:
    step = Step(
        title=section.needed("title"),
        text=section.text("text"),
        hints=section.texts("hints"),
        solve=tuple(_commands(section, "solve", vary)),
        checks=tuple(_check(check, vary) for check in section.listed("checks")),
    )
    section.done()
    check_names([step.text, step.hints], vary, section.place())
    if not step.checks:
        raise ConfigError(f"{section.place()}: a step shows by itself whether it is solved; write [[steps.checks]]")
    if len(step.hints) < LEAST_HINTS:
        raise ConfigError(f"{section.place()}: a step has hints; write hints = [...]")
    return step


def _check(section: Section, vary: Mapping[str, Any]) -> Check:
    check = kinds.read(section)
    check_names(check.texts(), vary, section.place())
    return check


def _commands(section: Section, key: str, vary: Mapping[str, Any]) -> Iterator[Command]:
    for entry in section.listed(key):
        command = Command(entry.text("where"), entry.needed("run"), entry.place(), entry.boolean("background", False))
        entry.done()
        check_names(command.run, vary, command.place)
        yield command


def _vary(section: Section) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in section.names():
        first, last = section.pair(name)
        yield name, (first, last)
    section.done()
