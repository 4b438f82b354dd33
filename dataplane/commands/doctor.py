"""`udplane doctor`: can a node with these flags run on this host, and if not, what is to be done.

Every check is a function that yields findings: OK, WARN for what works but may hurt, FAIL for what will not work. A
check reads and never changes anything. The checks work beside a running node as well as before the first start.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dataplane.backends.registry import BACKENDS
from dataplane.commands.with_node import add_json, show
from dataplane.commands.with_store import add_store_flags, ask_store, read_store_flags
from dataplane.engines.contract import EngineConfig
from dataplane.engines.registry import kind_of, load_engine
from dataplane.errors import ConfigError, NodeError, UdplaneError
from dataplane.flags import add_flags, read_flags
from dataplane.forwarding.tun import CLONE_DEVICE
from dataplane.forwarding.udp import BUFFER_BYTES, DEFAULT_PORT, ENCAP_OVERHEAD
from dataplane.kernel import firewall, netdev
from dataplane.kernel.device import MINIMUM_MTU
from dataplane.kernel.nft_rules import base_chains
from dataplane.leases.gate import LeaseGate, Refusal, check_underlay
from dataplane.leases.network_config import DEFAULT_BACKEND, NetworkConfig
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from dataplane.options import NodeOptions
from dataplane.stores.base import Store, StoreOptions
from dataplane.text import plural, table

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""Bit numbers in /proc/PID/status (include/uapi/linux/capability.h): for devices and rules, for `udplane capture`."""

_STORE_SECONDS = 10.0
_OLDEST_KERNEL = (4, 18)
"""The first with UDP_SEGMENT; older ones work, slower."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `level` is OK, WARN or FAIL; `remedy` says what to do, empty for OK."""

    level: str
    check: str
    text: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """As JSON shows it."""
        return {"level": self.level, "check": self.check, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks work on: the flags, and what can be found out with them.

    `differences` is what the node that runs here says of all that it set up, by name; None if no node answers.
    """

    options: NodeOptions
    config: NetworkConfig | None
    refused: tuple[Refusal, ...]
    interface: netdev.ExternalInterface | None
    differences: Mapping[str, str] | None

    @property
    def running(self) -> bool:
        """Whether a node answers here."""
        return self.differences is not None

    @property
    def versions(self) -> list[int]:
        """The IP versions of the pod networks."""
        if self.config is None:
            return [4]
        return [v for v, pool in ((4, self.config.ipv4), (6, self.config.ipv6)) if pool is not None]

    @property
    def in_process(self) -> bool:
        """Whether the node would move the packets itself; as long as there is no config, the default backend does."""
        kind = BACKENDS.get(DEFAULT_BACKEND if self.config is None else self.config.backend.type)
        return kind is not None and kind.in_process

    @property
    def port(self) -> int:
        """The UDP port of the config."""
        return DEFAULT_PORT if self.config is None else self.config.backend.integer("Port", DEFAULT_PORT, 1, 65535)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the node that is to be."""
    add_json(parser)
    add_flags(parser, NodeOptions)
    add_store_flags(parser)


def run(namespace: argparse.Namespace) -> int:
    """Examine and print; 1 if anything will not work."""
    findings = examine(read_flags(namespace, os.environ, NodeOptions), read_store_flags(namespace))
    show(namespace, [finding.document() for finding in findings], lambda _: render(findings))
    return 1 if any(finding.level == "FAIL" for finding in findings) else 0


def examine(options: NodeOptions, store_options: StoreOptions) -> list[Finding]:
    """Run all checks."""
    findings: list[Finding] = []
    config: NetworkConfig | None = None
    refused: tuple[Refusal, ...] = ()
    try:
        config, n_leases, refused = _ask_store(options, store_options)
        findings.append(Finding("OK", "store", f"{options.store} answers: {plural(n_leases, 'lease')}"))
    except UdplaneError as error:
        findings.append(Finding("FAIL", "store", str(error), "correct what the message names; see --store"))
    interface = None
    try:
        interface = netdev.external_interface(options.iface, options.public_ip, _own_devices(options))
    except NodeError as error:
        findings.append(Finding("FAIL", "interface", str(error), "see --iface and --public-ip"))
    subject = Subject(options, config, refused, interface, _ask_node(options))
    for check in _CHECKS if subject.in_process else _CHECKS_OF_ANY_BACKEND:
        findings += check(subject)
    return findings


def render(findings: Iterable[Finding]) -> str:
    """One line for each finding, with the remedy of what is not OK below it."""
    findings = list(findings)
    text = ""
    for finding, line in zip(findings, table([(f.level, f.check, f.text) for f in findings]).splitlines(), strict=True):
        text += line + "\n" + (f"{'':6}-> {finding.remedy}\n" if finding.remedy else "")
    failed = sum(finding.level == "FAIL" for finding in findings)
    warned = sum(finding.level == "WARN" for finding in findings)
    return text + f"\n{plural(failed, 'failure')}, {plural(warned, 'warning')}\n"


def _ask_store(options: NodeOptions, store_options: StoreOptions) -> tuple[NetworkConfig, int, tuple[Refusal, ...]]:
    """The network config, how many leases there are, and those that no node believes."""

    async def read(store: Store) -> tuple[NetworkConfig, int, tuple[Refusal, ...]]:
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                config = NetworkConfig.parse(await store.network_config())
                gate = LeaseGate(config, any_length=not store.cuts_by_config)
                judged = [gate.admit(lease) for lease in await store.leases()]
        except TimeoutError as error:
            raise NodeError(f"{options.store} did not answer within {_STORE_SECONDS:.0f} s") from error
        return config, len(judged), tuple(item for item in judged if isinstance(item, Refusal))

    return ask_store(options.store, store_options, read)


def _own_devices(options: NodeOptions) -> set[str]:
    """The overlay's devices, by which a default route may lead."""
    with contextlib.suppress(NodeError):
        record = RunDirectory(options.run_dir).recall()
        return {options.tun, *(record.leftovers.devices if record is not None else ())}
    return {options.tun}


def _ask_node(options: NodeOptions) -> Mapping[str, str] | None:
    """How the host differs from what the running node wants; None if no node answers."""
    try:
        answer = ControlClient(RunDirectory(options.run_dir).control_socket).request("GET", "/v1/host")
    except NodeError:
        return None
    return {str(what): str(difference) for what, difference in answer["differences"].items()}


def _check_kernel(subject: Subject) -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:3] if part.isdecimal())
    if "gso" not in subject.options.no_offload and _spoils_segments(subject.options.engine, release):
        text = f"Linux {release} spoils segmented sends, so the node does without gso, slower"
        yield Finding("WARN", "kernel", text, "7.1.5 and newer are sound")
    elif numbers >= _OLDEST_KERNEL:
        yield Finding("OK", "kernel", f"Linux {release} on {platform.machine()}")
    else:
        yield Finding("WARN", "kernel", f"Linux {release} cannot segment UDP", "4.18 or newer forwards much faster")


def _spoils_segments(engine: str, release: str) -> bool:
    """Whether the engine knows that of the kernel; one that cannot be loaded says so in a check of its own."""
    try:
        from dataplane.engines.native import spoils_segments
    except ImportError:
        return False
    return kind_of(engine).has_loop and spoils_segments(release)


def _check_capabilities(_host: Subject) -> Iterator[Finding]:
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        remedy = "run as root, or in a user and network namespace of your own: unshare -Urn"
        yield Finding("FAIL", "privilege", f"{' and '.join(missing)} not held", remedy)
    else:
        yield Finding("OK", "privilege", " and ".join(_CAPABILITIES))


def _check_tun(_host: Subject) -> Iterator[Finding]:
    try:
        os.close(os.open(CLONE_DEVICE, os.O_RDWR))
        yield Finding("OK", "tun", f"{CLONE_DEVICE} can be opened")
    except OSError as error:
        remedy = (
            f"modprobe tun; in a container add --device {CLONE_DEVICE}; without root give this user's group the file"
        )
        yield Finding("FAIL", "tun", f"{CLONE_DEVICE}: {error.strerror}", remedy)


_NO_ENGINE = "install udplane anew with what that engine needs at hand; --engine python always works"


def _check_engine(subject: Subject) -> Iterator[Finding]:
    try:
        load_engine(subject.options.engine, EngineConfig(None, None, 1280))
        yield Finding("OK", "engine", f"{subject.options.engine} loads")
    except UdplaneError as error:
        yield Finding("FAIL", "engine", str(error), _NO_ENGINE)


def _check_mtu(subject: Subject) -> Iterator[Finding]:
    if subject.interface is None:
        return
    inner = subject.interface.mtu - ENCAP_OVERHEAD[subject.interface.address.version]
    least = max(MINIMUM_MTU[version] for version in subject.versions)
    text = f"{subject.interface.name} carries {subject.interface.mtu}, which leaves {inner} for pods"
    if inner < least:
        remedy = f"raise it: ip link set {subject.interface.name} mtu {least + subject.interface.mtu - inner}"
        yield Finding("FAIL", "mtu", f"{text}; {least} are needed", remedy)
    else:
        yield Finding("OK", "mtu", f"{text}; underlay address {subject.interface.address}")


def _check_port(subject: Subject) -> Iterator[Finding]:
    """A free port, or one that the running node holds."""
    if subject.interface is None:
        return
    family = socket.AF_INET6 if subject.interface.address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(subject.interface.address), subject.port))
            busy = False
        except OSError:
            busy = True
    where = f"UDP port {subject.port} of {subject.interface.address}"
    if busy and not subject.running:
        remedy = f"find who has it: ss -ulnp sport = :{subject.port}; or set another Port in the Backend of the config"
        yield Finding("FAIL", "port", f"{where} is taken", remedy)
    else:
        yield Finding("OK", "port", f"{where} is {'held by the node' if busy else 'free'}")


def _check_set_up(subject: Subject) -> Iterator[Finding]:
    """What a running node has set up, compared anew with the host; before the start, what it will turn on."""
    if subject.differences is None:
        for version in subject.versions:
            on = netdev.forwarding_enabled(version)
            state = "is forwarded" if on else "is not forwarded yet; the node turns that on"
            yield Finding("OK", "forwarding", f"IPv{version} {state}")
        return
    found = {what: difference for what, difference in subject.differences.items() if difference}
    for what, difference in found.items():
        remedy = (
            f"the node puts back what it can within {subject.options.iptables_resync} s; its log says what it cannot"
        )
        yield Finding("FAIL", "host", f"{what} {difference}", remedy)
    if not found:
        yield Finding("OK", "host", f"all {len(subject.differences)} things that the node set up are in place")


def _check_reverse_path(subject: Subject) -> Iterator[Finding]:
    """Strict filtering on the external interface drops datagrams that come in another way than answers go."""
    if subject.interface is None or subject.interface.address.version != 4:
        return
    values = [netdev.read_sysctl(f"ipv4/conf/{name}/rp_filter") for name in ("all", subject.interface.name)]
    if "1" in values and "2" not in values:
        remedy = f"if peers use several ways to this host: sysctl -w net.ipv4.conf.{subject.interface.name}.rp_filter=2"
        yield Finding("WARN", "rp_filter", f"{subject.interface.name} takes packets only from where answers go", remedy)
    else:
        yield Finding("OK", "rp_filter", f"{subject.interface.name} is not strict about sources")


def _check_rules(subject: Subject) -> Iterator[Finding]:
    if subject.options.firewall == "none":
        yield Finding("WARN", "rules", firewall.WITHOUT_RULES, "leave --firewall none out where nft or iptables work")
        return
    choice = "" if subject.options.firewall == "auto" else subject.options.firewall
    managers = firewall.managers(try_iptables=choice == "iptables")
    usable = [manager.name for manager in managers if manager.name.startswith(choice)]
    if not usable:
        remedy = f"on Debian: apt-get install {choice or 'nftables'}; or start the node with --firewall none"
        what = f"{choice} cannot" if choice else "nothing can"
        yield Finding("FAIL", "rules", f"{what} hold rules: {'; '.join(firewall.complaints(choice))}", remedy)
        return
    yield Finding("OK", "rules", f"{' and '.join(usable)} can hold rules")
    for chain in base_chains("forward"):
        if chain["policy"] == "drop" and (chain["table"], chain["name"]) != ("filter", "FORWARD"):
            text = f"nftables chain {chain['family']} {chain['table']} {chain['name']} drops what it does not know"
            yield Finding("WARN", "rules", text, "accept forwarded traffic of the pod network in that chain")
    if any(firewall.iptables_that_drops(version) for version in subject.versions) and len(usable) > 1:
        yield Finding("OK", "rules", "iptables' FORWARD policy is DROP; the node puts its rules there")


def _check_networks(subject: Subject) -> Iterator[Finding]:
    """The pod network must not hide the underlay: peers' datagrams would go into the tunnel, round and round."""
    if subject.config is None or subject.interface is None:
        return
    try:
        check_underlay(subject.config, (*map(subject.interface.address_of, (4, 6)), subject.options.public_ip))
    except ConfigError as error:
        yield Finding("FAIL", "network", str(error), "see `udplane config set`")
        return
    for refusal in subject.refused:
        remedy = "correct or delete the lease in the store"
        yield Finding("WARN", "leases", f"the nodes ignore {refusal.lease}: {refusal.reason}", remedy)
    if not subject.refused:
        networks = " and ".join(str(pool.network) for pool in subject.config.pools)
        yield Finding("OK", "network", f"{networks} does not touch the underlay")


def _check_receive_buffer(_host: Subject) -> Iterator[Finding]:
    """Root may exceed rmem_max; in a user namespace it is the limit, where it can be seen at all."""
    try:
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return
    if limit < BUFFER_BYTES and os.geteuid() != 0:
        remedy = f"sysctl -w net.core.rmem_max={BUFFER_BYTES}"
        yield Finding("WARN", "buffers", f"receive buffers end at {limit} bytes; bursts are lost sooner", remedy)


_CHECKS_OF_ANY_BACKEND: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _check_kernel,
    _check_capabilities,
    _check_set_up,
    _check_reverse_path,
    _check_rules,
    _check_networks,
)

_CHECKS = (
    *_CHECKS_OF_ANY_BACKEND,
    _check_tun,
    _check_engine,
    _check_mtu,
    _check_port,
    _check_receive_buffer,
)
