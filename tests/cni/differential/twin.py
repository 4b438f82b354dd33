"""Carries out a Case on two nodes at once and tells every difference between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.cni.differential.scenario import Call, Case, Shell
from tests.cni.world.state import State, comparable, differences, mask, mask_output
from tests.cni.world.world import BIN_DIR, World, cni_env


@dataclass(frozen=True)
class Difference:
    """One thing that differs after one step. `path` is exit, stdout, or a path of `comparable`."""

    case: str
    step: str
    path: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.case} | {self.step} | {self.path}\n    first:  {self.first!r}\n    second: {self.second!r}"


class Twin:
    """Two worlds in step: each Call is made on both side by side, then exit status, output and state are compared."""

    def __init__(self, first: World, second: World) -> None:
        self._worlds = (first, second)
        self._previous: list[dict[str, Any]] = [{}, {}]  # the latest ADD's result of each pod, by world
        self._with_sysctls = True

    @property
    def kernel(self) -> World:
        """A world to ask for what the kernel has."""
        return self._worlds[0]

    def run(self, case: Case) -> list[Difference]:
        """All differences, in the order in which they appear."""
        self._previous = [{}, {}]
        self._with_sysctls = case.with_sysctls
        self._ask_both("reset", {}, {})
        for pod in case.pods:
            self._ask_both("pod", {"name": pod}, {"name": pod})
        found = []
        for number, step in enumerate(case.steps, 1):
            if isinstance(step, Shell):
                self._shell(step)
            else:
                pods = case.pods if step.state_matters or number == len(case.steps) else None
                compared = self._call(step, pods)
                found += [
                    Difference(case.name, f"{number} {step.label}", path, *both) for path, both in compared.items()
                ]
        return found

    def _ask_both(self, op: str, *arguments: dict[str, Any]) -> list[Any]:
        for world, given in zip(self._worlds, arguments, strict=True):
            world.send(op, **given)
        first, second = self._worlds
        try:
            answer = first.receive()
        finally:  # whatever the first one's is, the next request must not get the second one's
            other = second.receive()
        return [answer, other]

    def _shell(self, step: Shell) -> None:
        request: dict[str, Any] = {
            "argv": ["sh", "-ec", step.command],
            "pod": step.pod,
            "env": {},
            "stdin": "",
            "timeout": 30,
        }
        for done in self._ask_both("run", request, request):
            assert done["exit"] == 0, f"{step.command}: {done['stderr']}"

    def _call(self, call: Call, pods: tuple[str, ...] | None) -> dict[str, tuple[Any, Any]]:
        """Make the call on both; how outcome and, unless `pods` is None, the state of node and pods differ."""
        outcomes = self._ask_both("run", self._request(call, 0), self._request(call, 1))
        for index, done in enumerate(outcomes):
            self._remember(index, call, done)
        if pods is None:
            return differences(*({"exit": done["exit"], "stdout": mask(done["stdout"], {})} for done in outcomes))
        request = {"pods": pods, "with_sysctls": self._with_sysctls}
        snapshots = self._ask_both("snapshot", request, request)
        return differences(*map(outcome_and_state, outcomes, snapshots))

    def _request(self, call: Call, world: int) -> dict[str, Any]:
        conf = call.conf
        if call.with_previous and isinstance(conf, dict) and call.pod in self._previous[world]:
            conf = {**conf, "prevResult": self._previous[world][call.pod]}
        return {
            "argv": [f"{BIN_DIR}/{call.kind}"],
            "pod": None,
            "env": cni_env(call.verb, call.pod, **call.env),
            "stdin": conf if isinstance(conf, str) else json.dumps(conf),
            "timeout": 60,
        }

    def _remember(self, world: int, call: Call, done: dict[str, Any]) -> None:
        if call.verb == "ADD" and done["exit"] == 0 and done["stdout"].startswith("{"):
            self._previous[world][call.pod] = json.loads(done["stdout"])


def outcome_and_state(done: dict[str, Any], snapshot: dict[str, Any]) -> State:
    """How a call ended and what the node looks like after it, in one mapping."""
    return {"exit": done["exit"], "stdout": mask_output(done["stdout"], snapshot)} | comparable(snapshot)
