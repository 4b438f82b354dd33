"""Runs the commands of an exercise, inside of its lab: `python -m dataplane.lab.teaching.acting LAB start|solve:STEP`.

A process of its own, since the one that makes a lab is outside. Prints the right answers of the step as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from dataplane.errors import UdplaneError
from dataplane.lab import state
from dataplane.lab.netns import LabError
from dataplane.lab.teaching.checks import failures, room_of
from dataplane.lab.teaching.exercise import Command, Exercise, load
from dataplane.lab.teaching.kinds import answers as answer_kind
from dataplane.lab.teaching.kinds.base import Room
from dataplane.lab.teaching.kinds.nodes import counters
from dataplane.lab.teaching.progress import Current
from dataplane.lab.view import NodePlace

MODULE = "dataplane.lab.teaching.acting"
START, SOLVE = "start", "solve:"

COMMAND_SECONDS = 60.0
SETTLE_SECONDS = 20.0
"""How long the network may take to become what a step's commands have asked for."""


def main(arguments: list[str]) -> int:
    """Entry point."""
    name, what = arguments
    try:
        lab = state.find(name)
        current = Current.of(lab)
        exercise = load(Path(current.directory))
        room = room_of(lab, exercise, current, {})
        print(json.dumps(_start(lab, exercise, current, room) if what == START else _solve(exercise, room, what)))
    except UdplaneError as error:
        print(f"udplane: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _start(lab: state.Lab, exercise: Exercise, current: Current, room: Room) -> dict[str, str]:
    for command in exercise.start:
        _run(command, room)
    replace(current, baseline=counters(room.view)).save(lab)
    return {}


def _solve(exercise: Exercise, room: Room, what: str) -> dict[str, str]:
    """Run the commands of a step and wait until its checks pass."""
    step = exercise.steps[int(what.removeprefix(SOLVE)) - 1]
    for command in step.solve:
        _run(command, room)
    answers = {
        check.values["name"]: room.variables.fill(check.values["is"][0])
        for check in step.checks
        if check.kind_name == answer_kind.KIND
    }
    room = replace(room, answers=answers)
    deadline = time.monotonic() + SETTLE_SECONDS
    while missing := failures(step, room):
        if time.monotonic() > deadline:
            raise LabError(f"{step.checks[0].place}: the step's own commands do not solve it: {missing[0]}")
        time.sleep(0.1)
    return answers


def _run(command: Command, room: Room) -> None:
    """Run a command where it belongs. Raises LabError that names its line when it fails."""
    text = room.variables.fill(command.run)
    argv = ["sh", "-c", text]
    environment = dict(os.environ)
    if command.where:
        place = room.place(command.where)
        argv = place.namespace.command(argv)
        if isinstance(place, NodePlace):
            environment["UDPLANE_RUN_DIR"] = str(place.run_dir)
    cwd = str(room.variables.work) if room.variables.work != Path() else "/"
    if command.background:
        log = Path(room.view.directory, "background.log").open("ab")  # noqa: SIM115  # it is the command's
        subprocess.Popen(
            argv, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        return
    try:
        done = subprocess.run(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command.place}: `{text}` does not end; add background = true") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        where = f" on {command.where}" if command.where else ""
        raise LabError(f"{command.place}: `{text}`{where} failed: {said[-1]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
