"""What the differential run consists of: a Case is a named list of steps, written once and carried out on both nodes.

    Case("bridge-hairpin", add("bridge", conf), check("bridge", conf), delete("bridge", conf))

A Call runs a plugin, and everything is compared after it; a Shell step sets the scene and is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Conf = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One plugin call. `conf` is a netconf, or a string that goes to standard input as it is."""

    kind: str
    verb: str
    conf: Conf | str
    pod: str = "p1"
    env: dict[str, str | None] = field(default_factory=dict)
    with_previous: bool = False  # put the latest ADD's result for this pod into the netconf as prevResult
    state_matters: bool = True  # compare the nodes' state after it, and not only at the end of the case

    @property
    def label(self) -> str:
        """How a difference names this step."""
        return f"{self.verb or 'no-verb'} {self.kind}"


@dataclass(frozen=True)
class Shell:
    """A command that must succeed on both nodes, run in `pod` or, when None, on the node."""

    command: str
    pod: str | None = None


Step = Call | Shell


class Case:
    """Steps under a name, on a fresh node that has those of `pods` that the steps are about.

    `needs` names what not every kernel has (tests/cni/world/kernel.py); where one is missing, the case is skipped, and
    `./dev test --kernels` carries it out on kernels that have it. Without `with_sysctls` the sysctls are not compared,
    which takes most of the time in an emulated machine.
    """

    def __init__(
        self,
        name: str,
        *steps: Step,
        pods: tuple[str, ...] = ("p1",),
        needs: tuple[str, ...] = (),
        with_sysctls: bool = True,
    ) -> None:
        self.name = name
        self.steps = steps
        self.pods = tuple(pod for pod in pods if any(step.pod == pod for step in steps))
        self.needs = needs
        self.with_sysctls = with_sysctls

    def __repr__(self) -> str:
        return self.name


def netconf(kind: str, version: str | None = "1.0.0", /, **keys: Any) -> Conf:
    """A netconf of network net1; a version of None leaves cniVersion out."""
    conf: Conf = {"cniVersion": version, "name": "net1", "type": kind, **keys}
    return {key: value for key, value in conf.items() if key != "cniVersion" or value is not None}


def add(kind: str, conf: Conf | str, pod: str = "p1", /, *, after: bool = False, **env: Any) -> Call:
    """ADD; `after` says that it is chained after an earlier plugin, whose result it is given."""
    return Call(kind, "ADD", conf, pod, env, with_previous=after)


def check(kind: str, conf: Conf | str, pod: str = "p1", /, **env: Any) -> Call:
    """CHECK, with the latest result as prevResult; should it change the state, the next comparison tells."""
    return Call(kind, "CHECK", conf, pod, env, with_previous=True, state_matters=False)


def delete(kind: str, conf: Conf | str, pod: str = "p1", /, *, after: bool = False, **env: Any) -> Call:
    """DEL, as a runtime without a cache of results does it; `after` hands over the latest result."""
    return Call(kind, "DEL", conf, pod, env, with_previous=after)


def life(kind: str, conf: Conf, **env: Any) -> tuple[Step, ...]:
    """ADD, CHECK, DEL, and a second DEL that finds nothing left to do; the state is compared after the second."""
    first = replace(delete(kind, conf, **env), state_matters=False)
    return add(kind, conf, **env), check(kind, conf, **env), first, delete(kind, conf, **env)


def host_local(subnet: str = "10.9.0.0/24", /, **keys: Any) -> Conf:
    """An ipam section for host-local."""
    return {"type": "host-local", "subnet": subnet, **keys}


DUAL_STACK: Conf = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}
