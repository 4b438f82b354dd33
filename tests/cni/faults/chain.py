"""A pod's chain of plugins, called in the runtime's order, as fault tests need it: whole, one by one, killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.cni.world.state import State, comparable, without_counters
from tests.cni.world.world import Done, World, cni_env

KILL_AT = Path(__file__).with_name("kill_at.py")
SIGKILLED = -9
Conf = dict[str, Any]


class Chain:
    """The plugins of one network, on one node, for the pod p1."""

    def __init__(self, world: World, *confs: Conf) -> None:
        self._world = world
        self._confs = {conf["type"]: {"cniVersion": "1.1.0", "name": "net1", **conf} for conf in confs}

    @property
    def kinds(self) -> list[str]:
        """The plugins' names in the order of ADD."""
        return list(self._confs)

    def add(self, before: str = "") -> Done:
        """ADD, each with the result of the one before; up to the first that fails, or until `before`'s turn comes."""
        done = Done(0, "{}", "")
        for kind in self.kinds:
            if kind == before or done.exit != 0:
                break
            done = self.call("ADD", kind, self._after(done))
        return done

    def delete(self, before: str = "", **env: Any) -> Done:
        """DEL in reverse order without cached results, until `before`'s turn comes; the first failure, or success."""
        failed = Done(0, "", "")
        for kind in reversed(self.kinds):
            if kind == before:
                break
            done = self.call("DEL", kind, **env)
            failed = failed if failed.exit != 0 else done
        return failed

    def collect(self) -> Done:
        """GC with no attachment alive; the first failure, or success."""
        answers = [self.call("GC", kind, {"cni.dev/valid-attachments": []}) for kind in self.kinds]
        return next((done for done in answers if done.exit != 0), answers[0])

    def collect_without_pod(self) -> Done:
        """GC when the pod's namespace is gone as well; a new pod p1 takes its place."""
        self._world.sh("umount /run/netns/p1; rm /run/netns/p1")
        done = self.collect()
        self._world.ask("pod", name="p1")
        return done

    def call(self, verb: str, kind: str, extra: Conf | None = None, **env: Any) -> Done:
        """One plugin on its own, its netconf extended by `extra`."""
        return self._world.plugin(kind, verb, self._confs[kind] | (extra or {}), env)

    def call_and_kill(self, verb: str, kind: str, step: int) -> bool:
        """Bring the pod to where `kind` has its turn, run it and kill it before `step`; whether it lived that long."""
        if verb == "ADD":
            extra = self._after(self.add(before=kind))
        else:
            extra = {}
            assert self.add().exit == 0
            assert self.delete(before=kind).exit == 0
        conf = json.dumps(self._confs[kind] | extra)
        command = (sys.executable, "-IS", str(KILL_AT), str(step), kind)
        done = self._world.run(*command, env=cni_env(verb), stdin=conf)
        self._world.settle()  # an iptables-restore, say, that outlived the plugin
        return done.exit == SIGKILLED

    def _after(self, done: Done) -> Conf:
        return {} if done.stdout == "{}" else {"prevResult": done.json}


def state_of(world: World) -> State:
    """The node and p1 for comparison."""
    return without_counters(comparable(world.snapshot("p1")))


def settle(chain: Chain, world: World) -> State:
    """What pods that came and went leave on purpose: the bridge, forwarding, empty state directories.

    Two pods, since only the second one finds a bridge whose MTU has to be set.
    """
    for _ in range(2):
        added = chain.add()
        assert added.exit == 0, added.stdout
        assert chain.delete().exit == 0
    return state_of(world)


PORTS = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
LIMITS = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
HOST_LOCAL = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]}
BRIDGE: Conf = {"type": "bridge", "isDefaultGateway": True, "ipMasq": True, "ipam": HOST_LOCAL}
FLANNEL: Conf = {"type": "flannel", "delegate": {"isDefaultGateway": True}}

CHAINS: dict[str, tuple[Conf, ...]] = {
    "flannel": (FLANNEL, {"type": "portmap", **PORTS}),
    "bridge": (
        BRIDGE,
        {"type": "tuning", "mtu": 1400, "promisc": True},
        {"type": "bandwidth", **LIMITS},
        {"type": "firewall", "ingressPolicy": "same-bridge"},
    ),
    "ptp": ({"type": "ptp", "ipMasq": True, "ipam": HOST_LOCAL},),
    "macvlan": ({"type": "macvlan", "master": "m0", "ipam": HOST_LOCAL},),
    "host-device": ({"type": "host-device", "device": "m0", "ipam": HOST_LOCAL},),
    "vlan": ({"type": "vlan", "master": "m0", "vlanId": 5, "ipam": HOST_LOCAL},),
    "ipvlan": ({"type": "ipvlan", "master": "m0", "ipam": HOST_LOCAL},),
    "dummy": ({"type": "dummy", "ipam": HOST_LOCAL},),
    "vrf": (BRIDGE, {"type": "vrf", "vrfname": "blue"}),
    "sbr": (BRIDGE, {"type": "sbr"}),
    "tap": ({"type": "tap", "mac": "c2:c2:c2:c2:00:06", "ipam": HOST_LOCAL},),
}
