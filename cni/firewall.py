"""firewall: lets a pod's traffic pass where the node's FORWARD chain does not let everything pass.

A chained plugin that works with iptables, in the table filter of each family that the pod has an address of:

    FORWARD       -> CNI-FORWARD
    CNI-FORWARD   -> CNI-ADMIN, the administrator's own rules; then for each pod: replies to it, and all from it, pass

Where firewalld runs, or is asked for as the backend, the pod's addresses become sources of one of its zones instead
(cni.lib.firewalld).

With ingressPolicy same-bridge, pods on other bridges are kept out (FORWARD -> CNI-ISOLATION-STAGE-1, -2); with
isolated, those on the same bridge as well.

The rules name addresses alone, as the official plugin's do. What a DEL needs beyond network, container id and
interface name, those addresses, is remembered in /run/cni/firewall, and so is what GC needs.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError, describe
from cni.lib.gojson import JsonSyntaxError, JsonTypeError, dumps, loads
from cni.lib.ip import family, format_ip, parse_ip
from cni.lib.netns import NetnsLock
from cni.lib.nftables import chain_exists, legacy_table_in_use
from cni.lib.process import find_program
from cni.lib.rollback import Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.store import discard, is_temporary, list_directory, make_directory, read_file, remove, write_atomic
from cni.lib.types import Result

TABLE = "filter"
FORWARD_CHAIN = "CNI-FORWARD"
DEFAULT_ZONE = "trusted"
DEFAULT_ADMIN_CHAIN = "CNI-ADMIN"
STAGES = ("CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2")
POLICIES = ("", "open", "same-bridge", "isolated")
STATE_DIR = "/run/cni/firewall"


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields("FirewallNetConf")
            self.backend = fields.text("backend")
            self.admin_chain = fields.text("iptablesAdminChainName") or DEFAULT_ADMIN_CHAIN
            self.policy = fields.text("ingressPolicy")
            self.zone = fields.text("firewalldZone") or DEFAULT_ZONE
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def check_for_add(self) -> None:
        """Refuse what cannot be done. DEL never does."""
        if self.policy not in POLICIES:
            raise CniError(f"unknown ingress policy: {dumps(self.policy)}")

    @property
    def asks_firewalld(self) -> bool:
        """Whether firewalld is to let the pod's traffic pass: as configured, else where it runs."""
        if self.backend in ("iptables", "firewalld"):
            return self.backend == "firewalld"
        from cni.lib import firewalld

        return firewalld.is_running()

    def shared_rules(self, result: Result, with_firewalld: bool) -> list[Rule]:
        """What all pods share, unless firewalld lets them pass, and what all pods on the same bridge share."""
        isolation = [] if self.policy in ("", "open") else self._isolation_rules(_bridge(result, self.policy))
        return isolation if with_firewalld else self._pass_rules() + isolation

    def _pass_rules(self) -> list[Rule]:
        admin = firewall.quote(self.admin_chain)
        return [
            Rule("FORWARD", f'-m comment --comment "CNI firewall plugin rules" -j {FORWARD_CHAIN}', first=True),
            Rule(FORWARD_CHAIN, f'-m comment --comment "CNI firewall plugin admin overrides" -j {admin}', first=True),
        ]

    def _isolation_rules(self, bridge: str) -> list[Rule]:
        bridge = firewall.quote(bridge)
        note = '-m comment --comment "CNI firewall plugin rules (ingressPolicy: {})"'.format
        own, shared = note(self.policy), note("same-bridge|isolated")
        rules = [
            Rule("FORWARD", f"{shared} -j {STAGES[0]}", first=True),
            Rule(STAGES[0], f"-i {bridge} ! -o {bridge} {own} -j {STAGES[1]}", first=True),
            Rule(STAGES[0], f"{shared} -j RETURN"),
            Rule(STAGES[1], f"-o {bridge} {shared} -j DROP", first=True),
            Rule(STAGES[1], f"{shared} -j RETURN"),
        ]
        if self.policy == "isolated":
            rules.append(Rule(STAGES[0], f"-i {bridge} -o {bridge} {own} -j DROP", first=True))
        return rules


def _bridge(result: Result, policy: str) -> str:
    """The bridge that the pod is on: the first interface of the result."""
    if not result.interfaces:
        hint = 'make sure to chain "firewall" plugin with "bridge"'
        raise CniError(f"interface needs to be set for ingress policy {dumps(policy)}, {hint}")
    if not result.interfaces[0].name:
        raise CniError("got empty bridge name")
    return result.interfaces[0].name


class Rule:
    """A rule of a chain, as `iptables -S` prints it; a `first` one goes to the head of its chain."""

    __slots__ = ("chain", "first", "text")

    def __init__(self, chain: str, text: str, first: bool = False) -> None:
        self.chain = chain
        self.text = text
        self.first = first

    @property
    def listed(self) -> str:
        """The line that `iptables -S` prints."""
        return f"-A {self.chain} {self.text}"

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"{'-I' if self.first else '-A'} {self.chain} {self.text}"


def pod_rules(ip: bytes) -> list[Rule]:
    """The rules of one address."""
    host = f"{format_ip(ip)}/{len(ip) * 8}"
    replies = f"-d {host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    return [Rule(FORWARD_CHAIN, replies), Rule(FORWARD_CHAIN, f"-s {host} -j ACCEPT")]


def add(call: Call) -> Result:
    """Let the pod's traffic pass; the result is that of the plugins before."""
    config = Config(call)
    config.check_for_add()
    previous = _previous(call)
    ips = [config.address.ip for config in previous.ips]
    with_firewalld = config.asks_firewalld
    shared = config.shared_rules(previous, with_firewalld)
    if ips:
        with Rollback() as rollback:
            rollback.push(lambda: delete(call))
            Memory.of(call).save(ips, config.zone if with_firewalld else "")
            with NetnsLock():
                _add_rules(shared, ips, config.admin_chain, with_firewalld)
            if with_firewalld:
                from cni.lib import firewalld

                firewalld.add(config.zone, ips)
            rollback.pop_all()
    return previous


def _previous(call: Call) -> Result:
    previous = call.prev_result("FirewallNetConf", unreadable="could not parse prevResult: ")
    if previous is None:
        raise CniError("missing prevResult from earlier plugin")
    return previous


def _families(ips: list[bytes]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(family(ip) for ip in ips))


def _add_rules(shared: list[Rule], ips: list[bytes], admin_chain: str, with_firewalld: bool) -> None:
    """Add what is missing, one transaction a family."""
    if with_firewalld and not shared:
        return
    own_chains = [] if with_firewalld else [FORWARD_CHAIN, admin_chain]
    started = []
    for of_family, present in firewall.list_iptables(TABLE, _families(ips)).items():
        for_pod = [] if with_firewalld else [rule for ip in ips if family(ip) == of_family for rule in pod_rules(ip)]
        rules = shared + for_pod
        chains = dict.fromkeys([*own_chains, *(rule.chain for rule in rules)])
        commands = [f":{c} - [0:0]" for c in chains if c != "FORWARD" and f"-N {c}" not in present]
        commands += [rule.command for rule in rules if rule.listed not in present]
        if commands:
            started.append(firewall.start_iptables(of_family, TABLE, commands))
    for transaction in started:
        transaction.wait()


def check(call: Call) -> None:
    """Every rule has to be there."""
    config = Config(call)
    config.check_for_add()
    previous = _previous(call)
    ips = [ip.address.ip for ip in previous.ips]
    if config.asks_firewalld:
        from cni.lib import firewalld

        firewalld.check(config.zone, ips)
        return
    shared = config.shared_rules(previous, with_firewalld=False)[:2]
    for of_family, present in firewall.list_iptables(TABLE, _families(ips)).items():
        for rule in shared:
            if rule.listed not in present:
                raise CniError(f"expected {rule.chain} rule [{_unquoted(rule)}] not found")
        for rule in [rule for ip in ips if family(ip) == of_family for rule in pod_rules(ip)]:
            if rule.listed not in present:
                raise CniError(f"expected rule [{_unquoted(rule)}] not found")


def _unquoted(rule: Rule) -> str:
    return rule.text.replace('"', "")


class Memory:
    """The addresses of an attachment, kept from its ADD to its DEL."""

    def __init__(self, network: str, attachment: Attachment) -> None:
        self.network = network
        self.attachment = attachment
        name = firewall.hash_text(f"{network}\n{attachment.container_id}\n{attachment.ifname}", 32)
        self.path = f"{STATE_DIR}/{name}.json"
        self.ips: list[bytes] | None = None  # None: nothing is known
        self.zone = ""  # of firewalld, empty where iptables lets the pod pass

    @property
    def owner(self) -> tuple[str, Attachment]:
        """Whose it is, under its own name or a temporary one."""
        return self.network, self.attachment

    @classmethod
    def of(cls, call: Call) -> Memory:
        """What is remembered of the call's attachment."""
        memory = cls(call.name, Attachment(call.container_id, call.ifname))
        saved = cls.read(memory.path)
        if saved:
            memory.ips, memory.zone = saved.ips, saved.zone
        return memory

    @classmethod
    def read(cls, path: str) -> Memory | None:
        """A memory file; None if there is none or it cannot be read."""
        data = read_file(path)
        try:
            content = loads(data) if data else {}
            memory = cls(content["network"], Attachment(content["containerID"], content["ifname"]))
            memory.ips = [ip for ip in map(parse_ip, content["ips"]) if ip]
            memory.zone = str(content.get("firewalldZone", ""))
        except (JsonSyntaxError, KeyError, TypeError, AttributeError):
            return None
        memory.path = path
        return memory

    def save(self, ips: list[bytes], zone: str) -> None:
        """Remember addresses, besides those of an ADD before, and firewalld's zone. Raises CniError."""
        self.ips = list(dict.fromkeys([*(self.ips or []), *ips]))
        self.zone = zone or self.zone
        container_id, ifname = self.attachment.key
        content = {"network": self.network, "containerID": container_id, "ifname": ifname}
        content |= {"firewalldZone": self.zone} if self.zone else {}
        try:
            make_directory(STATE_DIR, 0o700)
            write_atomic(self.path, dumps({**content, "ips": [format_ip(ip) for ip in self.ips]}).encode())
        except OSError as error:
            raise CniError(f"failed to remember the pod's addresses: {describe(error)}") from error


def memories() -> list[Memory]:
    """Everything that is remembered, also by an ADD that was killed before its memory had its name."""
    found = (Memory.read(f"{STATE_DIR}/{name}") for name in sorted(list_directory(STATE_DIR)))
    return [memory for memory in found if memory]


def delete(call: Call) -> None:
    """Remove the pod's rules. With nothing to remove, no program runs."""
    memory = Memory.of(call)
    ips = memory.ips
    if ips is None:  # made by another plugin, or removed before
        ips = _addresses_of(call)
        memory.zone = _zone_of(call)
    if ips:  # an address may be another pod's by now, whose rules are the same
        taken = {ip for other in memories() if other.owner != memory.owner for ip in other.ips or []}
        ips = [ip for ip in ips if ip not in taken]
    remove_rules(ips, memory.zone)
    discard(memory.path)


def _zone_of(call: Call) -> str:
    """The zone that the configuration speaks of, if firewalld is to be asked."""
    try:
        config = Config(call)
        return config.zone if config.asks_firewalld else ""
    except CniError:
        return ""


def _addresses_of(call: Call) -> list[bytes]:
    """The addresses in prevResult, if there is one that can be read."""
    try:
        previous = call.prev_result()
    except (CniError, ValueError):
        return []
    return [ip.address.ip for ip in previous.ips] if previous else []


def remove_rules(ips: list[bytes], zone: str) -> None:
    """Remove the rules of these addresses, and the addresses from firewalld's zone if there is one. Raises CniError."""
    if zone and ips:
        from cni.lib import firewalld

        firewalld.remove(zone, ips)
    places = [f for f in _families(ips) if chain_exists(f, TABLE, FORWARD_CHAIN) or legacy_table_in_use(f, TABLE)]
    started = []
    with NetnsLock():
        for of_family, present in firewall.list_iptables(TABLE, tuple(places)).items():
            ours = {rule.listed for ip in ips if family(ip) == of_family for rule in pod_rules(ip)}
            commands = ["-D" + line[2:] for line in present if line in ours]
            if commands:
                started.append(firewall.start_iptables(of_family, TABLE, commands))
        for transaction in started:
            transaction.wait()


def gc(call: Call) -> None:
    """Remove the rules of this network's pods that are gone."""
    valid = call.valid_attachments()
    if valid is None:
        return
    everything = memories()
    stale = [memory for memory in everything if memory.network == call.name and memory.attachment not in valid]
    kept = {ip for memory in everything if memory not in stale for ip in memory.ips or []}
    for zone in {memory.zone for memory in stale}:
        mine = [memory for memory in stale if memory.zone == zone]
        remove_rules([ip for memory in mine for ip in memory.ips or [] if ip not in kept], zone)
    for memory in stale:
        discard(memory.path)
    for name in filter(is_temporary, list_directory(STATE_DIR)):  # a half-written one is of use to nobody
        if Memory.read(f"{STATE_DIR}/{name}") is None:
            remove(f"{STATE_DIR}/{name}")


def status(call: Call) -> None:
    """Ready when firewalld, if it is to be asked, runs; else when iptables is there."""
    config = Config(call)
    config.check_for_add()
    if config.backend == "firewalld":
        from cni.lib import firewalld

        if not firewalld.is_running():
            raise CniError("firewalld is not running", PLUGIN_NOT_AVAILABLE)
    elif find_program("iptables-restore") is None:
        raise CniError("iptables is not installed", PLUGIN_NOT_AVAILABLE)


PLUGIN = Plugin("firewall", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
