"""What the page has `udplane lab` do: walks and exercises, each a run of the command.

The command is the only way to these, so that the page shows what a person would see who types it.
"""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataplane.lab.netns import LabError

SECONDS = 120
"""How long a command may take."""

EXERCISE_VERBS = ("check", "hint")
EXERCISE = re.compile(r"[0-9]{1,3}")
ANSWER = re.compile(r"[a-z0-9_]{1,40}")
PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}")
PROTOCOLS = ("icmp", "tcp", "udp")


class Tasks:
    """Runs commands, one after the other: a walk and a check at once would see each other's packets."""

    def __init__(self, base: Sequence[str] = (sys.executable, "-I", "-m", "dataplane.cli", "lab")) -> None:
        """Run `base` with a verb behind it."""
        self._base = tuple(base)
        self._turn = asyncio.Lock()

    async def call(self, *arguments: str) -> tuple[int, bytes, str]:
        """Run a verb: exit status, what it has printed, its complaint in one line. Raises LabError when it hangs."""
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                *self._base,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
            except TimeoutError as error:
                raise LabError(f"udplane lab {arguments[0]} took more than {SECONDS} s") from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        said = errors.decode(errors="replace").strip().splitlines()
        return process.returncode or 0, output, said[-1].removeprefix("udplane: ") if said else ""

    async def run(self, *arguments: str) -> Any:
        """What a verb has printed, as JSON, which a failed check has too. Raises LabError with its words if none."""
        status, output, complaint = await self.call(*arguments)
        try:
            return json.loads(output)
        except ValueError:
            reason = complaint or f"it printed no JSON, and ended with status {status}"
            raise LabError(f"udplane lab {arguments[0]}: {reason}") from None

    async def exercises(self) -> Any:
        """Every exercise, and how far this student is."""
        return {"exercises": await self.run("start", "--json")}

    async def exercise(self, number: str, verb: str, options: dict[str, Any]) -> Any:
        """Check an exercise, or open a hint. Raises LabError for anything else."""
        if verb not in EXERCISE_VERBS or not EXERCISE.fullmatch(number):
            raise LabError(f"the page cannot {verb} exercise {number}")
        arguments = [verb, *([number] if verb == "check" else []), *_step(options)]
        if verb == "check":
            arguments += _answers(options)
        return await self.run(*arguments, "--json")

    async def walk(self, options: dict[str, Any]) -> Any:
        """A recorded walk. Raises LabError when the options make no command."""
        arguments = walk_arguments(options)
        with tempfile.TemporaryDirectory(prefix="udplane-walk-") as directory:
            file = Path(directory, "walk.json")
            status, _, complaint = await self.call("walk", *arguments, "--brief", "--save", str(file))
            try:
                return json.loads(await asyncio.to_thread(file.read_bytes))
            except OSError:
                reason = complaint or f"it recorded nothing, and ended with status {status}"
                raise LabError(f"udplane lab walk: {reason}") from None


def wish(number: str, verb: str, options: dict[str, Any]) -> list[str]:
    """The command that starts, solves or resets an exercise. Raises LabError when it makes none."""
    if not EXERCISE.fullmatch(number):
        raise LabError(f"there is no exercise {number}")
    return [verb, *([number] if verb == "start" else []), *(_step(options) if verb == "solve" else [])]


def _step(options: dict[str, Any]) -> list[str]:
    step = options.get("step")
    if step is None:
        return []
    if not isinstance(step, int) or isinstance(step, bool) or not 1 <= step <= 99:
        raise LabError("a step is a number from 1 to 99")
    return ["--step", str(step)]


def _answers(options: dict[str, Any]) -> list[str]:
    answers = options.get("answers", {})
    if not isinstance(answers, dict) or len(answers) > 20:
        raise LabError("answers are texts by name, 20 at most")
    arguments = []
    for name, text in answers.items():
        if not ANSWER.fullmatch(name) or not isinstance(text, str) or len(text) > 1000 or "\0" in text:
            raise LabError("an answer is a text of at most 1000 characters")
        arguments += [f"--answer={name}={text}"]
    return arguments


def walk_arguments(options: dict[str, Any]) -> list[str]:
    """The command line of a walk for what was chosen in the page. Raises LabError that says which choice is none."""
    source, target = str(options.get("from", "")), str(options.get("to", ""))
    if not PLACE.fullmatch(source):
        raise LabError(f"{source!r} is no place of a lab")
    if not (PLACE.fullmatch(target) or ADDRESS.fullmatch(target)):
        raise LabError(f"{target!r} is neither a place of a lab nor an address")
    arguments = [source, target]
    if options.get("proto") is not None:
        if options["proto"] not in PROTOCOLS:
            raise LabError(f"a walk's packet is one of {', '.join(PROTOCOLS)}")
        arguments += ["--proto", str(options["proto"])]
    for key, most in (("size", 1 << 20), ("ttl", 255)):
        value = options.get(key)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise LabError(f"{key} is a number from 1 to {most}")
            arguments += [f"--{key}", str(value)]
    if options.get("ipv6"):
        arguments += ["--family", "6"]
    return arguments
