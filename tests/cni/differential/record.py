"""What the differential runs have seen, which outlives the process that saw it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cni.differential.intended.entry import Intended
from tests.cni.differential.intended.table import explain
from tests.cni.differential.twin import Difference


@dataclass(frozen=True)
class Coverage:
    """Which cases ran, which were left out for the kernel, and which intended differences were seen in them."""

    cases: frozenset[str]
    skipped: frozenset[str]
    intended: frozenset[str]


class Record:
    """The coverage of one list of cases, in a directory to which each process of the run adds a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def judge(self, case: str, differences: list[Difference], table: tuple[Intended, ...]) -> None:
        """Note the intended ones of all the differences that a case has found, and fail on the others."""
        explained = [(difference, explain(difference, table)) for difference in differences]
        self._add({"case": case, "intended": sorted({entry.name for _, entry in explained if entry})})
        others = [str(difference) for difference, entry in explained if not entry]
        assert not others, "first is the official plugin, second is udplane's:\n" + "\n".join(others)

    def skipped(self, case: str) -> None:
        """The case was left out for the kernel."""
        self._add({"skipped": case})

    def read(self) -> Coverage:
        """What all processes have written."""
        lines = [json.loads(line) for file in self._directory.iterdir() for line in file.read_text().splitlines()]
        return Coverage(
            frozenset(line["case"] for line in lines if "case" in line),
            frozenset(line["skipped"] for line in lines if "skipped" in line),
            frozenset(name for line in lines for name in line.get("intended", ())),
        )

    def _add(self, line: dict[str, Any]) -> None:
        with (self._directory / str(os.getpid())).open("a") as file:
            file.write(json.dumps(line) + "\n")
