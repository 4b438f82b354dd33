"""A lab made from a plan: namespaces, wires, nodes with their daemons, pods by real CNI plugins.

1. The wires and the hosts on them, each in a namespace.
2. A daemon on each node, all at once. It finds the subnet that the plan wishes in its subnet file, as a node does that
   has run before, and leases it from the store.
3. The pods of each node, one after the other, but those of different nodes at the same time.
4. Once all nodes know each other: what the wires do to packets, names, and what is broken on purpose.

Nodes with one backend are one overlay, with a store of their own. So nodes with udp, vxlan and host-gw can stand side
by side, and do not reach each other's pods.
"""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Self

from dataplane.addresses import Network
from dataplane.lab import hosts_file, impairment
from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.overlay import Daemon, Overlay, conflist, install_plugins, last_line, wait_until
from dataplane.lab.plan import Plan, PlannedHost, PlannedNode, Wire
from dataplane.lab.runtime import Runtime
from dataplane.lab.topology import FORWARDING, Lab, Node, Pod, Segment
from dataplane.lab.view import HostPlace, LabView, NodePlace, PodPlace, SegmentPlace
from dataplane.leases.lease import Subnets
from dataplane.node.subnet_file import SubnetFile

Say = Callable[[str], None]

MOST_THREADS = 8

HIDE = """
    add table inet nat
    add chain inet nat out {{ type nat hook postrouting priority 100; }}
    add rule inet nat out oifname "{device}" masquerade
    add chain inet nat through {{ type filter hook forward priority 0; }}
    add rule inet nat through iifname "{device}" ct state new ct status != dnat drop
"""
"""What a NAT does: who asks from inside is hidden, and nobody outside begins."""


class Build:
    """A lab that is being made. A context manager: unless `keep` was called, its end takes everything down."""

    def __init__(self, plan: Plan, directory: Path, name: str, say: Say) -> None:
        """Make it from `plan`, with its files in `directory`; `say` is told what is going on."""
        self.plan = plan
        self.directory = directory
        self.name = name
        self.seed = plan.seed or 0
        self._say = say
        self._stack = ExitStack()
        self._segments: dict[str, Segment] = {}
        self._netns: dict[str, Namespace] = {}
        self._overlays: dict[str, Overlay] = {}
        self._daemons: dict[str, Daemon] = {}
        self._nodes: dict[str, Node] = {}

    def __enter__(self) -> Self:
        self._pool = self._stack.enter_context(ThreadPoolExecutor(MOST_THREADS))
        self._lab = self._stack.enter_context(Lab(prefix="", versions=(4, 6), with_underlay=False))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep(self) -> None:
        """Leave it standing."""
        self._lab.keep()
        for overlay in self._overlays.values():
            overlay.keep()

    def stand(self) -> LabView:
        """Make all of it. Raises LabError or another UdplaneError, with the last words of daemons as notes."""
        self._say(f"{len(self.plan.wires)} wires and what hangs on them")
        self._underlay()
        self._say(f"{len(self.plan.nodes)} nodes")
        self._start_daemons()
        pods = self._pods()
        self._say("nodes getting to know each other")
        self._introduce()
        self._impair()
        view = self._view(pods)
        hosts_file.write(view)
        view.write()
        self._break()
        return view

    # ---- wires and hosts

    def _underlay(self) -> None:
        names = [*(member.name for member in self.plan.members), *self._pod_names()]
        made = self._pool.map(self._lab.add_namespace, names)
        wires = self.plan.wires.values()
        segments = self._pool.map(lambda wire: self._lab.add_segment(wire.name, wire.mtu, wire.own_addresses), wires)
        self._segments = {segment.name: segment for segment in segments}
        self._netns = dict(zip(names, made, strict=True))
        self._netns |= {segment.name: segment.netns for segment in self._segments.values()}
        list(self._pool.map(self._connect, self.plan.members))

    def _pod_names(self) -> list[str]:
        return [pod for node in self.plan.nodes for pod in node.spec.pods]

    def _connect(self, host: PlannedHost) -> None:
        """Hang a host on its wires, and tell it the ways beyond them."""
        netns = self._netns[host.name]
        for link in host.links:
            self._lab.connect(netns, self._segments[link.wire], host.name, link.addresses, link.device)
        netns.ip(*(f"route add {to} via {hop}" for to, hop in host.routes))
        if host.forwards:
            netns.sysctl({f"net/ipv{version}/{key}": 1 for version, key in FORWARDING.items()})
        if host.nat:
            netns.run(["nft", HIDE.format(device=host.nat)])

    # ---- nodes

    def _start_daemons(self) -> None:
        for planned in self.plan.nodes:
            host = planned.host
            addresses = host.links[0].addresses
            node = Node(host.name, self._netns[host.name], addresses)
            self._nodes[host.name] = node
            self._lab.nodes.append(node)
            if planned.spec.udplane:
                self._daemons[host.name] = self._start(planned, node)

    def _start(self, planned: PlannedNode, node: Node) -> Daemon:
        overlay = self._overlay(planned.spec.backend)
        self._wish(planned)
        return overlay.start(node, engine=planned.spec.engine, flags=planned.spec.flags)

    def _overlay(self, backend: str) -> Overlay:
        """The overlay of all nodes with that backend."""
        if backend not in self._overlays:
            own = "" if backend == self.plan.topology.backend else backend
            versions = {interface.version for node in self.plan.nodes for interface in node.host.links[0].addresses}
            overlay = Overlay(
                self._lab,
                self.directory,
                underlay=min(versions),
                network=network_config(self.plan, backend),
                name=own,
                keep_logs=None,
            )
            self._overlays[backend] = self._stack.enter_context(overlay)
        return self._overlays[backend]

    def _wish(self, planned: PlannedNode) -> None:
        """Write the subnet file that a node has when it has owned the planned subnets before."""
        file = SubnetFile(_families(self.plan.networks), _families(planned.subnets), mtu=1400, ip_masq=True)
        file.write(self.directory / planned.spec.name / "subnet.env")

    # ---- pods

    def _pods(self) -> list[PodPlace]:
        self._bin_dir = install_plugins(self.directory)
        self._say(f"{len(self._pod_names())} pods")
        return [pod for pods in self._pool.map(self._pods_of, self.plan.nodes) for pod in pods]

    def _pods_of(self, planned: PlannedNode) -> list[PodPlace]:
        """Connect the pods of a node, except those that shall not be."""
        node = self._nodes[planned.spec.name]
        config = self._conflist(planned)
        runtime = Runtime(node, self._bin_dir, config, device_name=lambda pod: f"veth-{pod}")
        found = []
        for name in planned.spec.pods:
            if name in self.plan.topology.unwired:
                found.append(PodPlace(name, name, (), node=node.name))
                continue
            pod = runtime.add(name, self._netns[name])
            node.pods.append(pod)
            found.append(_pod_place(pod, node))
        return found

    def _conflist(self, planned: PlannedNode) -> dict[str, Any]:
        """How the node's pods are connected: by its lease, or without udplane by the plan's subnets."""
        data_dir = self.directory / "cni" / planned.spec.name
        daemon = self._daemons.get(planned.spec.name)
        if daemon is not None:
            daemon.wait_until_ready()
            return conflist(daemon.subnet_file, data_dir)
        ranges = [[{"subnet": str(subnet)}] for subnet in planned.subnets]
        ipam = {"type": "host-local", "dataDir": str(data_dir / "networks"), "ranges": ranges}
        bridge = {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "ipam": ipam}
        return {"cniVersion": "1.0.0", "name": "by-hand", "plugins": [bridge]}

    # ---- at the end

    def _impair(self) -> None:
        """Have wires treat packets as the topology says."""
        for wire in self.plan.wires.values():
            if not wire.impairment:
                continue
            netns, members = self._netns[wire.name], self._members_on(wire)
            if impairment.has_netem(netns):
                for member in members:
                    netem = impairment.netem_arguments(wire.impairment)
                    netns.run(["tc", "qdisc", "add", "dev", member.name, "root", "netem", *netem])
                continue
            for member in members:
                device = next(link.device for link in member.links if link.wire == wire.name)
                self._netns[member.name].ip(f"link set dev {device} gso_max_segs 1")
            self._start_impairment(wire, [member.name for member in members])

    def _start_impairment(self, wire: Wire, ports: list[str]) -> None:
        """Start the program that stands in for netem, and wait until it does."""
        command = impairment.command(wire.impairment, f"{self.seed} {wire.name}", wire.mtu, ports)
        file = self.directory / f"{wire.name}.log"
        with file.open("wb") as log:
            process = self._netns[wire.name].start(command, log=log)

        def ready() -> bool:
            if process.poll() is not None:
                raise LabError(f"wire {wire.name}: {last_line(file)}")
            return impairment.READY in file.read_text()

        wait_until(ready, f"wire {wire.name} to be impaired")

    def _members_on(self, wire: Wire) -> list[PlannedHost]:
        return [member for member in self.plan.members if any(link.wire == wire.name for link in member.links)]

    def _introduce(self) -> None:
        """Wait until each node knows all others of its overlay."""
        sizes: dict[str, int] = {}
        for planned in self.plan.nodes:
            sizes[planned.spec.backend] = sizes.get(planned.spec.backend, 0) + planned.spec.udplane
        for planned in self.plan.nodes:
            if planned.spec.udplane:
                daemon = self._daemons[planned.spec.name]
                daemon.wait_until_ready()
                daemon.wait_for_peers(sizes[planned.spec.backend] - 1)

    def _break(self) -> None:
        """Run what breaks the lab on purpose."""
        for broken in self.plan.topology.broken:
            try:
                done = self._netns[broken.where].run(["sh", "-c", broken.run], check=False)
            except subprocess.TimeoutExpired as error:
                raise LabError(
                    f"{broken.place}: `{broken.run}` in {broken.where} does not end; what is to go on needs "
                    "`>/dev/null 2>&1 &` behind it"
                ) from error
            if done.returncode != 0:
                raise LabError(f"{broken.place}: `{broken.run}` in {broken.where} failed: {done.stderr.strip()}")

    def _view(self, pods: Sequence[PodPlace]) -> LabView:
        default = self.plan.topology.backend
        return LabView(
            self.name,
            str(self.directory),
            network_config(self.plan, default),
            self._overlays[default].store if default in self._overlays else "",
            tuple(self._node_place(node) for node in self.plan.nodes),
            tuple(pods),
            tuple(self._host_place(host) for host in self.plan.hosts),
            tuple(self._segment_place(wire) for wire in self.plan.wires.values()),
        )

    def _node_place(self, planned: PlannedNode) -> NodePlace:
        node, link = planned.spec, planned.host.links[0]
        daemon = self._daemons.get(node.name)
        leased = tuple(map(str, daemon.lease()[0])) if daemon else tuple(map(str, planned.subnets))
        device = daemon.status()["backend"]["device"] if daemon else ""
        return NodePlace(
            node.name,
            node.name,
            tuple(map(str, link.addresses)),
            segment=link.wire,
            backend=node.backend if node.udplane else "",
            engine=node.engine if node.udplane and node.backend == "udp" else "",
            tunnel=device or "",
            directory=str(self.directory / node.name),
            subnets=leased,
        )

    def _host_place(self, host: PlannedHost) -> HostPlace:
        first = host.links[0]
        addresses = tuple(str(address) for link in host.links for address in link.addresses)
        devices = {link.wire: link.device for link in host.links}
        return HostPlace(host.name, host.name, addresses, first.device, segment=first.wire, devices=devices)

    def _segment_place(self, wire: Wire) -> SegmentPlace:
        ports = {member.name: member.name for member in self._members_on(wire)}
        return SegmentPlace(wire.name, wire.name, tuple(map(str, wire.own_addresses)), "br0", ports, wire.mtu)


def network_config(plan: Plan, backend: str) -> dict[str, Any]:
    """flannel's net-conf JSON for the nodes with that backend."""
    config: dict[str, Any] = {"EnableIPv4": False}
    for network in plan.networks:
        if network.version == 4:
            config |= {"EnableIPv4": True, "Network": str(network)}
        else:
            config |= {"EnableIPv6": True, "IPv6Network": str(network)}
    return config | {"Backend": {"Type": backend}}


def _families(networks: Iterable[Network]) -> Subnets:
    networks = list(networks)
    return Subnets(
        next((network for network in networks if isinstance(network, IPv4Network)), None),
        next((network for network in networks if isinstance(network, IPv6Network)), None),
    )


def _pod_place(pod: Pod, node: Node) -> PodPlace:
    addresses = tuple(map(str, pod.addresses))
    return PodPlace(pod.name, pod.netns.name, addresses, node=node.name, host_device=pod.host_device)
