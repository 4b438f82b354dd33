"""What a check is, and what it gets to look into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataplane.lab.netns import LabError
from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.variables import Variables
from dataplane.lab.view import LabView, Place

SHOWN = 200
"""Characters of what a check got that are shown."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a check has found."""

    ok: bool
    got: str
    expected: str = ""
    hint: str = ""
    """What this wrong result says about the mistake, where the exercise knows it."""


@dataclass(frozen=True, slots=True)
class Room:
    """A lab with a student in it."""

    view: LabView
    variables: Variables
    answers: Mapping[str, str] = field(default_factory=dict)
    baseline: Mapping[str, int] = field(default_factory=dict)
    """Counters as they were when the exercise began: `node1 encap.packets`."""

    def place(self, name: str) -> Place:
        """A place by name. Raises LabError."""
        return self.view.find(name)

    def output(self, where: str, argv: Sequence[str]) -> str:
        """What a command prints at a place. Raises LabError when it fails."""
        return self.place(where).namespace.run(argv).stdout


Values = Mapping[str, Any]
"""A check's own keys."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of check: how its keys are read from a file, and how it is done."""

    text: str
    """What it asks, for those who write exercises."""
    read: Callable[[Section], dict[str, Any]]
    run: Callable[[Room, Any], Result]
    describe: Callable[[Any], str]
    """The check in a few words, where the exercise does not say its own; names are not filled in yet."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of an exercise."""

    kind_name: str
    kind: Kind
    say: str
    look: str
    """Where a student finds the same: a command, or a page of the walk."""
    values: Values
    place: str
    """file:line."""

    def texts(self) -> list[Any]:
        """All in which names may stand."""
        return [self.say, self.look, self.values]

    def title(self, variables: Variables) -> str:
        """The check in a few words."""
        return variables.fill(self.say or self.kind.describe(self.values))

    def run(self, room: Room) -> Result:
        """Do it. What cannot be looked at is a check that failed, and says why."""
        try:
            return self.kind.run(room, room.variables.fill_all(self.values))
        except (LabError, OSError) as error:
            return Result(False, f"cannot be looked at: {error}")


def shortened(text: str) -> str:
    """One line of at most SHOWN characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
