"""Commands that a person would type to see a fact, run once each, with what they really printed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from dataplane.lab.recording import See
from dataplane.lab.view import LabView
from dataplane.lab.walking.survey import ask, objects_of

MAX_LINES = 24
"""Of an output; the rest is left out, and `…` stands for it."""


class Looks:
    """The commands of a recording, each kept once."""

    def __init__(self, view: LabView) -> None:
        self.see: list[See] = []
        self._view = view
        self._known: dict[tuple[str, str], int] = {}
        self._begun: dict[tuple[str, str], Future[subprocess.CompletedProcess[str]]] = {}
        self._asked: dict[tuple[str, str], subprocess.CompletedProcess[str]] = {}

    def begin(self, pool: Executor, where: str, command: str, argv: Sequence[str]) -> None:
        """Have a command that takes long run already; `run` waits for it."""
        self._begun[where, command] = pool.submit(ask, self._view.find(where).namespace, argv)

    def run(
        self,
        where: str,
        command: str,
        *,
        grep: str = "",
        keep: Callable[[str], bool] | None = None,
        argv: Sequence[str] = (),
    ) -> int:
        """Run `command`, words separated by blanks, at a place; returns its number in `see`.

        `argv` is what is really run where that takes paths that nobody wants to read. With `grep` the command is shown
        with a pipe to grep(1), and only the lines with that text stay. With `keep` only the lines that it wants stay,
        and `…` for others.
        """
        key = (where, f"{command} | grep {grep}" if grep else command)
        if key not in self._known:
            done = self._ask(where, command, argv)
            output = done.stdout if done.returncode == 0 else done.stdout + done.stderr
            if grep:
                output = "\n".join(line for line in output.splitlines() if grep in line)
            self._known[key] = self.add(*key, shortened(output, keep))
        return self._known[key]

    def objects(self, where: str, command: str) -> list[dict[str, Any]]:
        """What a command of iproute2 prints as JSON; it is not among what is shown. Nothing when it fails."""
        return objects_of(self._ask(where, command))

    def _ask(self, where: str, command: str, argv: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run it at a place, unless that has been done."""
        key = (where, command)
        if key not in self._asked:
            begun = self._begun.pop(key, None)
            done = begun.result() if begun else ask(self._view.find(where).namespace, argv or command.split())
            self._asked[key] = done
        return self._asked[key]

    def add(self, where: str, command: str, output: str, origin: str = "recorded") -> int:
        """Note an output that was got otherwise."""
        self.see.append(See(where, command, output, origin))
        return len(self.see) - 1

    def output(self, number: int) -> str:
        """What a command has printed."""
        return self.see[number].output


def shortened(output: str, keep: Callable[[str], bool] | None = None) -> str:
    """The lines that `keep` wants, at most MAX_LINES; a line `…` for each run of others."""
    lines: list[str] = []
    for line in output.rstrip().splitlines():
        if (keep is None or keep(line)) and len(lines) < MAX_LINES:
            lines.append(line.rstrip())
        elif not lines or lines[-1] != "…":
            lines.append("…")
    return "\n".join(lines)
