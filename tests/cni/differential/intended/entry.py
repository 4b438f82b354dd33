"""A deliberate difference between udplane's plugins and the official ones, and when it covers one that was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.cni.differential.twin import Difference

# What a link, a route list, a chain or a file that is not there looks like.
GONE = r"^(None|\[\])$"


@dataclass(frozen=True)
class Intended:
    """One deliberate difference. `relation`, given both values, says more than a pattern can."""

    name: str
    reason: str
    cases: tuple[str, ...] = ("*",)
    steps: tuple[str, ...] = ("*",)
    paths: tuple[str, ...] = ("stdout",)
    ours: str = ""
    relation: Callable[[Any, Any], object] = lambda _official, _ours: True

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is this one."""
        return (
            matches(difference.case, self.cases)
            and matches(difference.step, self.steps)
            and matches(difference.path, self.paths)
            and re.search(self.ours, str(difference.second)) is not None
            and bool(self.relation(difference.first, difference.second))
        )


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether any of the patterns fits."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)
