"""A random sequence: a runtime that adds, deletes, checks and collects, is killed, reboots, and a host that interferes.

Each step is one of the methods `step_*`, chosen at random. After it every live attachment has to have the traces that
it had before, unless the step was about it; see model.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from random import Random

from tests.cni.sequences import networks
from tests.cni.sequences.model import Attachment, Life, leftovers, look, own_traces, result_of, traces
from tests.cni.sequences.networks import MASTER, Conf
from tests.cni.world.state import State
from tests.cni.world.world import BIN_DIR, Done, World, cni_env

PODS = ("p1", "p2", "p3", "p4")
INTERFACES = ("eth0", "eth1")
OWN_LINKS = ("lo", MASTER, "m1", "cni0", "br1", "cbr0", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0")
FIRST_PODS = 4
LONGEST_LIFE = 0.04
"""Seconds until a plugin is killed, at most."""
# A copy of a warm interpreter is a child of it; the interpreters themselves have no parent but the first process.
IDLE = """timeout 30 sh -c 'while pgrep -r R,S,D -x "iptables-resto|ip6tables-rest|nft" ||
test $(pgrep -fc cni.lib.[w]arm) -gt $(pgrep -fc cni.lib.[w]arm -P 1); do sleep 0.01; done'"""


class Sequence:
    """One node, its pods, and what the runtime believes of them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = Random(seed)
        self.attachments: list[Attachment] = []
        self.gone: list[Attachment] = []
        self.history: list[str] = []
        self.incarnations = dict.fromkeys(PODS, 0)
        self.damaged_node = False
        """Whether the host has interfered: from then on an ADD may fail."""
        self.chains = {name: networks.random_chain(self.random, name) for name in networks.MAIN}
        self.boots = 0
        self.strangers: set[str] = set()
        self.devices: set[str] = set()
        self._boot()

    def _boot(self) -> None:
        self.world.reset(*PODS)
        self.strangers.clear()
        for pod in PODS:
            self.incarnations[pod] += 1
        self.world.write_subnet_env()
        self.world.sh(f"ip link add {MASTER} type veth peer name m1; ip link set {MASTER} up; ip link set m1 up")

    # ---- what is believed

    def live(self) -> list[Attachment]:
        return [one for one in self.attachments if one.life is Life.LIVE]

    def container(self, pod: str) -> str:
        return f"{pod}-{self.incarnations[pod]}"

    def is_pod_there(self, one: Attachment) -> bool:
        return one.container_id == self.container(one.pod)

    def forget(self, one: Attachment) -> None:
        self.attachments.remove(one)
        self.gone.append(one)

    # ---- calls of plugins

    def call(self, verb: str, one: Attachment, conf: Conf, kill_after: float = 0, netns: str | None = None) -> Done:
        path = f"/run/netns/{one.pod}" if self.is_pod_there(one) else "/run/netns/gone"
        env = cni_env(
            verb, CNI_CONTAINERID=one.container_id, CNI_IFNAME=one.ifname, CNI_NETNS=path if netns is None else netns
        )
        plugin = [f"{BIN_DIR}/{conf['type']}"]
        command = ["timeout", "-s", "KILL", f"{kill_after:.4f}", *plugin] if kill_after else plugin
        done = self.world.run(*command, env=env, stdin=json.dumps(networks.for_attachment(conf, one.number)))
        if kill_after:
            self.world.sh(IDLE)
        return done

    def add(self, one: Attachment, kill: int | None = None) -> Done:
        """The chain; `kill` is the number of the plugin that is killed."""
        done = Done(0, "", "")
        for number, conf in enumerate(one.chain):
            life = self.random.uniform(0.001, LONGEST_LIFE) if kill == number else 0
            done = self.call("ADD", one, conf | result_of(one), life)
            if done.exit != 0 or kill == number:
                break
            one.result = done.json
        return done

    def delete(self, one: Attachment, kill: int | None = None, netns: str | None = None) -> Done:
        """The chain, with the configuration of today, and with or without the result of the ADD."""
        result = result_of(one) if self.random.random() < 0.5 else {}
        failed = Done(0, "", "")
        chain = self.chains[one.network] if self.random.random() < 0.5 else one.chain
        kinds = [conf["type"] for conf in chain]
        chain = [*chain, *(conf for conf in one.chain if conf["type"] not in kinds)]
        for number, conf in enumerate(reversed(chain)):
            life = self.random.uniform(0.001, LONGEST_LIFE) if kill == number else 0
            done = self.call("DEL", one, conf | result, life, netns)
            if kill == number:
                return Done(-9, "", "")
            failed = failed if failed.exit != 0 else done
        return failed

    # ---- steps: each gives the attachments that it was about

    def step_add(self) -> list[Attachment]:
        one = self._new()
        if one is None:
            return []
        done = self.add(one)
        if done.exit == 0:
            one.life = Life.LIVE
        else:
            assert self.damaged_node, f"ADD of {one}: {done}"
        return [one]

    def _new(self) -> Attachment | None:
        """An attachment that can be added, None where all are taken. A pod is in one network twice now and then."""
        mine = [(one.pod, one.ifname, one.network) for one in self.attachments if self.is_pod_there(one)]
        taken_names = {(pod, ifname) for pod, ifname, _ in mine}
        taken_networks = {(pod, network) for pod, _, network in mine}
        free = [
            (pod, ifname, network)
            for pod, ifname, network in product(PODS, INTERFACES, networks.MAIN)
            if (pod, ifname) not in taken_names
        ]
        again = [one for one in free if (one[0], one[2]) in taken_networks]
        new = [one for one in free if one not in again]
        again = [one for one in again if one[2] not in networks.ONCE]
        free = again if again and self.random.random() < 0.3 else new
        if not free:
            return None
        pod, ifname, network = self.random.choice(free)
        taken = {one.number for one in self.attachments}
        number = next(number for number in range(100) if number not in taken)
        one = Attachment(network, pod, self.container(pod), ifname, number, self.chains[network])
        self.attachments.append(one)
        if network == "device":
            self._make_device(number)
        return one

    def _make_device(self, number: int) -> None:
        """The node's interface that host-device is to give away. A virtual one goes with a pod that dies."""
        name, far = networks.device(number), f"far{number}"
        self.world.sh(f"ip link show {name} >/dev/null 2>&1 || ip link add {name} type veth peer name {far}")
        self.devices |= {name, far}

    def step_killed_add(self) -> list[Attachment]:
        one = self._new()
        if one is None:
            return []
        self.add(one, kill=self.random.randrange(len(one.chain)))
        return [one]

    def step_delete(self) -> list[Attachment]:
        if not self.attachments:
            return []
        one = self.random.choice(self.attachments)
        self._delete(one)
        return [one]

    def _delete(self, one: Attachment) -> None:
        strangers = [f"/run/netns/{pod}" for pod in PODS if pod != one.pod]
        stale = ["", "/run/netns/gone", "/proc/self/ns/net", *strangers]
        there = self.is_pod_there(one)
        netns = None if there else self.random.choice(stale)
        done = self.delete(one, netns=netns)
        assert done.exit == 0, f"DEL of {one}: {done}"
        if one.network == "device" and there and one.life is Life.LIVE and not one.damaged:
            back = self.world.run("ip", "link", "show", networks.device(one.number))
            assert back.exit == 0, f"DEL of {one} has not given the device back"
        self.forget(one)

    def step_killed_delete(self) -> list[Attachment]:
        if not self.attachments:
            return []
        one = self.random.choice(self.attachments)
        self.delete(one, kill=self.random.randrange(len(one.chain)))
        one.life = Life.UNSURE
        return [one]

    def step_check(self) -> list[Attachment]:
        for one in self.live():
            if one.chain == self.chains[one.network] and not one.damaged:
                for conf in one.chain:
                    done = self.call("CHECK", one, conf | result_of(one))
                    assert done.exit == 0, f"CHECK of {one} by {conf['type']}: {done}"
        return []

    def step_collect(self) -> list[Attachment]:
        return self.collect(self.random.choice(list(networks.MAIN)))

    def collect(self, network: str) -> list[Attachment]:
        """GC; what the runtime is not sure of is not alive."""
        mine = [one for one in self.attachments if one.network == network]
        alive = [{"containerID": one.container_id, "ifname": one.ifname} for one in mine if one.life is Life.LIVE]
        kinds = {conf["type"]: conf for one in [*mine, *self.gone] if one.network == network for conf in one.chain}
        kinds |= {conf["type"]: conf for conf in self.chains[network]}
        for kind, conf in kinds.items():
            done = self._call_network("GC", conf | {"cni.dev/valid-attachments": alive})
            assert done.exit == 0, f"GC of {network} by {kind}: {done}"
        unsure = [one for one in mine if one.life is Life.UNSURE]
        for one in unsure:
            # What is in a pod alone is out of GC's reach, and goes with the pod.
            if network not in networks.IN_POD or not self.is_pod_there(one):
                self.forget(one)
        return unsure

    def step_status(self) -> list[Attachment]:
        for chain in self.chains.values():
            for conf in chain:
                done = self._call_network("STATUS", conf)
                assert done.exit == 0 or self.damaged_node, f"STATUS by {conf['type']}: {done}"
        return []

    def _call_network(self, verb: str, conf: Conf) -> Done:
        env = cni_env(verb, CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
        return self.world.run(f"{BIN_DIR}/{conf['type']}", env=env, stdin=json.dumps(conf))

    def step_change(self) -> list[Attachment]:
        network = self.random.choice(list(networks.MAIN))
        self.chains[network] = networks.random_chain(self.random, network)
        return []

    def step_pod_dies(self) -> list[Attachment]:
        pod = self.random.choice(PODS)
        mine = [one for one in self.attachments if one.container_id == self.container(pod)]
        self._remove(pod)
        self.world.ask("pod", name=pod)
        for one in mine:
            one.life = Life.UNSURE
        return mine

    def _remove(self, pod: str) -> None:
        """Remove the pod's namespace, and wait until the kernel has removed what was connected to it."""
        named = f"ip -j link show type veth | grep -q 'udplane [a-z]*/{self.container(pod)}/'"
        self.world.sh(f"umount /run/netns/{pod}; rm /run/netns/{pod}")
        self.world.sh(f'timeout 30 sh -c "while {named}; do sleep 0.01; done"')
        self.incarnations[pod] += 1

    def step_reboot(self) -> list[Attachment]:
        """What is in memory is gone; /var/lib stays."""
        if self.random.random() < 0.5:
            return []
        self.boots += 1
        self.world.sh("rm -rf /opt/kept; cp -a /var/lib/cni /opt/kept")
        self._boot()
        self.world.sh("rm -rf /var/lib/cni; cp -a /opt/kept /var/lib/cni")
        boot_id = f"/opt/boot-{self.boots}"
        self.world.sh(f"echo {boot_id} >{boot_id}; mount --bind {boot_id} /proc/sys/kernel/random/boot_id")
        for one in self.attachments:
            one.life = Life.UNSURE
        return list(self.attachments)

    def step_host_interferes(self) -> list[Attachment]:
        """Somebody else on the node does something that the plugins cannot know of."""
        live = self.live()
        harm: dict[str, Callable[[], list[Attachment]]] = {
            "nft flush ruleset": lambda: live,
            "iptables -t nat -F; iptables -t nat -X": lambda: live,
            "ip link del cni0 2>/dev/null || true": lambda: live,
            "rm -rf /var/lib/cni/flannel": lambda: live,
            "rm -f /run/flannel/subnet.env": list,
            "rm -rf /var/lib/cni/networks/.udplane": list,
            "for f in /var/lib/cni/networks/*/10.*.3; do test ! -e $f || : >$f; done": lambda: live,
            "for f in /var/lib/cni/flannel/*; do test ! -e $f || echo '{' >$f; done": lambda: live,
        }
        command = self.random.choice(list(harm))
        self.history[-1] += f" ({command})"
        self.damaged_node = True
        self.world.sh(command)
        about = harm[command]()
        for one in about:
            one.damaged = True
        return about

    def step_stranger(self) -> list[Attachment]:
        """Somebody else's device and table, which have to stay. The device is called as the official plugin's are."""
        number = self.random.randrange(1 << 20)
        names = (f"veth{number:08x}", f"x{number}")
        self.world.sh(f"ip link add {names[0]} type veth peer name {names[1]}")
        self.strangers |= set(names)
        self.world.sh("nft 'add table inet stranger; add chain inet stranger forward'")
        return []

    def are_strangers_there(self) -> bool:
        """Whether nobody has taken a stranger's device."""
        present = {link["ifname"] for link in json.loads(self.world.sh("ip -j link"))}
        return self.strangers <= present

    # ---- the whole

    def run(self, steps: int) -> None:
        """That many steps, each followed by a look at everybody."""
        weights = {
            self.step_add: 8, self.step_killed_add: 3, self.step_delete: 4, self.step_killed_delete: 2,
            self.step_check: 2, self.step_collect: 3, self.step_status: 1, self.step_change: 2, self.step_pod_dies: 2,
            self.step_reboot: 1, self.step_host_interferes: 1, self.step_stranger: 1,
        }  # fmt: skip
        before = self.look()
        for number in range(steps):
            (step,) = self.random.choices(list(weights), list(weights.values()))
            before = self.take(step if number >= FIRST_PODS else self.step_add, before)

    def look(self) -> State:
        """The node, and the pods of live attachments."""
        return look(self.world, sorted({one.pod for one in self.live()}))

    def take(self, step: Callable[[], list[Attachment]], before: State) -> State:
        """One step, and the look after it."""
        self.history.append(step.__name__.removeprefix("step_"))
        bystanders = self.live()
        about = step()
        self.history[-1] += "".join(f" {one}" for one in about)
        after = self.look()
        shared = {one.pod for one in about}
        for one in bystanders:
            if one in about or one.damaged:
                continue
            of = own_traces if one.pod in shared else traces
            lost, new = of(one, before) - of(one, after), of(one, after) - of(one, before)
            assert not lost and not new, f"{one} was touched: lost {sorted(lost)}, new {sorted(new)}"
        return after

    def end(self) -> list[str]:
        """Everything is deleted, or deleted or collected. Gives what is left of attachments."""
        collects = self.random.random() < 0.5
        for one in list(self.attachments):
            if collects and self.random.random() < 0.5:
                one.life = Life.UNSURE
            else:
                self._delete(one)
        for pod in PODS:
            self._remove(pod)
        for network in networks.MAIN if collects else ():
            self.collect(network)
        assert not self.attachments
        assert self.are_strangers_there()
        return leftovers(self.world, self.gone, {*OWN_LINKS, *self.strangers, *self.devices})
