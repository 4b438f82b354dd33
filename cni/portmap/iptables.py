"""Port mappings as iptables rules, in the chains and forms of the official plugin. All in the table nat:

    PREROUTING, OUTPUT    traffic to the host itself             -> CNI-HOSTPORT-DNAT
    CNI-HOSTPORT-DNAT     the ports of each pod, newest first    -> CNI-DN-<hash of network and container>
    CNI-DN-<hash>         for each mapping: from the pod's own subnet or from localhost -> CNI-HOSTPORT-SETMARK;
                          then DNAT to the pod
    CNI-HOSTPORT-SETMARK  set the mark that asks for masquerade
    POSTROUTING           -> CNI-HOSTPORT-MASQ, which masquerades what is marked

Traffic to ::1 is left alone (see cni.portmap.mapping).

CNI-DN-<hash> is the official plugin's, which all interfaces of a container in a network have in common. The comment on
the rules that lead to it says whose interface's it is; a second interface's chain has the interface in the hash too.

The first and the last two are shared by all pods. iptables-restore cannot say "add unless it is there", so an ADD
assumes that they are there: its transaction first checks them (-C), then adds the pod's own rules. If a check fails
nothing has happened, and the slow way is taken: under a lock, look at what there is, and add what is missing too.
The lock keeps fifty first ADDs on a fresh node from each adding a jump.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import CniError
from cni.lib.firewall import FirewallError, Transaction
from cni.lib.ip import AF_INET, AF_INET6, IPNet, family
from cni.lib.masquerade import removal_commands
from cni.lib.netns import NetnsLock
from cni.lib.skel import Attachment
from cni.portmap.mapping import LOCALHOST_V6, Mapping, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "nat"
DNAT_CHAIN = "CNI-HOSTPORT-DNAT"
SETMARK_CHAIN = "CNI-HOSTPORT-SETMARK"
MASQ_CHAIN = "CNI-HOSTPORT-MASQ"
PORTS_PER_RULE = 15  # as many as the multiport match takes
COMMENT_BYTES = 255
FAMILIES = (AF_INET, AF_INET6)
SPARE_LOCALHOST = f"-d {LOCALHOST_V6}/128 -j RETURN"
WORDS = {AF_INET: "ipv4", AF_INET6: "ipv6"}


class IptablesRules:
    """The rules of one attachment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        container_id, self._ifname = settings.attachment.key
        self._first_chain = pod_chain(settings.network, container_id)
        self._second_chain = pod_chain(settings.network, container_id, self._ifname)

    def add(self, pods: list[IPNet]) -> None:
        """Make the rules for the pod's addresses, one of each family at most. Raises CniError."""
        started = [(pod, self._start_fast(pod)) for pod in pods]
        failed = [pod for pod, transaction in started if transaction is None or not _succeeded(transaction)]
        for pod in failed:
            self._add_slowly(pod)

    def _start_fast(self, pod: IPNet) -> Transaction | None:
        """The one transaction of an ordinary ADD; None when the pod may have rules already: the slow way looks."""
        if self._may_exist(family(pod.ip)):
            return None
        checks = ["-C " + rule for rule in self._shared_rules()]
        commands = checks + self._own_commands(pod, self._first_chain)
        return firewall.start_iptables(family(pod.ip), TABLE, commands)

    def _add_slowly(self, pod: IPNet) -> None:
        of_family = family(pod.ip)
        with NetnsLock():
            present = firewall.list_iptables(TABLE, (of_family,))[of_family]
            commands = self._missing_commands(present)
            ours = self._chains_in(present)
            commands += [
                rule for chain in sorted(ours) for rule in removal_commands(present, chain) if rule.startswith("-D")
            ]
            chain = self._first_chain if self._first_chain in ours else self._second_chain
            firewall.start_iptables(of_family, TABLE, commands + self._own_commands(pod, chain)).wait()

    def _chains_in(self, present: list[str]) -> set[str]:
        """The chains that are this attachment's, or would be, given the table as `iptables -S` prints it."""
        first_is_ours = _holder(present, self._first_chain) in ("", self._ifname)
        return {self._first_chain, self._second_chain} if first_is_ours else {self._second_chain}

    def _shared_rules(self) -> list[str]:
        """The rules that all pods share, as `iptables -S` prints them without the leading command."""
        entry = f"-m addrtype --dst-type LOCAL -j {DNAT_CHAIN}"
        rules = [f"PREROUTING {entry}", f"OUTPUT {entry}"]
        if self._settings.snat and not self._settings.external_chain:
            mark = f"{1 << self._settings.mark_bit:#x}"
            mark = f"{mark}/{mark}"
            rules += [
                f'POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j {MASQ_CHAIN}',
                f'{SETMARK_CHAIN} -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark {mark}',
                f"{MASQ_CHAIN} -m mark --mark {mark} -j MASQUERADE",
            ]
        return rules

    def _missing_commands(self, present: list[str]) -> list[str]:
        """What makes the shared chains and rules that are not in the table as `iptables -S` prints it."""
        missing = [rule for rule in self._shared_rules() if "-A " + rule not in present]
        chains = [DNAT_CHAIN, *(rule.split()[0] for rule in self._shared_rules()[2:] if rule[0] == "C")]
        commands = [f":{chain} - [0:0]" for chain in dict.fromkeys(chains) if f"-N {chain}" not in present]
        # Before the masquerade of the bridge and ptp plugins, which would take the packet first.
        return commands + [f"-I {rule}" if rule.startswith("POSTROUTING") else f"-A {rule}" for rule in missing]

    def _own_commands(self, pod: IPNet, chain: str) -> list[str]:
        """What makes the pod's chain and leads to it."""
        entries = [f"-I {DNAT_CHAIN} {rule}" for rule in reversed(self._entry_rules(family(pod.ip), chain))]
        return [f":{chain} - [0:0]", *(f"-A {chain} {rule}" for rule in self._dnat_rules(pod)), *entries]

    def _entry_rules(self, of_family: int, chain: str, with_ifname: bool = True) -> list[str]:
        """The rules that lead to the pod's chain: one for each protocol and fifteen ports.

        The official plugin's do not name the interface.
        """
        settings = self._settings
        text = f'dnat name: "{settings.network}" id: "{settings.attachment.container_id}"'
        text += f' if: "{self._ifname}"' if with_ifname else ""
        comment = firewall.quote(text if len(text) <= COMMENT_BYTES else text[:253] + "...")
        conditions = "".join(" " + firewall.quote(word) for word in settings.conditions[of_family])
        rules = []
        for protocol in sorted({mapping.protocol for mapping in settings.mappings}):
            ports = [str(mapping.host_port) for mapping in settings.mappings if mapping.protocol == protocol]
            for at in range(0, len(ports), PORTS_PER_RULE):
                some = ",".join(ports[at : at + PORTS_PER_RULE])
                match = f"-p {protocol} -m comment --comment {comment} -m multiport --dports {some}{conditions}"
                rules.append(f"{match} -j {chain}")
        return rules

    def _dnat_rules(self, pod: IPNet) -> list[str]:
        mappings = [mapping for mapping in self._settings.mappings if mapping.fits(pod)]
        spared = [SPARE_LOCALHOST] if mappings and len(pod.ip) == 16 else []
        return spared + [rule for mapping in mappings for rule in self._rules_of(mapping, pod)]

    def _rules_of(self, mapping: Mapping, pod: IPNet) -> list[str]:
        """Mark what has to be masqueraded, then translate."""
        settings = self._settings
        match = f"-p {mapping.protocol} -m {mapping.protocol} --dport {mapping.host_port}"
        if mapping.destination:
            match = f"-d {mapping.destination} {match}"
        sources = []
        if settings.snat:
            sources = [str(IPNet(bytes(len(pod.ip)), 0) if settings.masq_all else pod.network)]
            if len(pod.ip) == 4 and not settings.masq_all:
                sources.append("127.0.0.1/32")
        marking = firewall.quote(settings.external_chain) if settings.external_chain else SETMARK_CHAIN
        marks = [f"-s {source} {match} -j {marking}" for source in sources]
        return [*marks, f"{match} -j DNAT --to-destination {mapping.target(pod)}"]

    def check(self, pods: list[IPNet]) -> None:
        """Every rule has to be there. Raises CniError naming the first that is not."""
        for pod in pods:
            problem = self._problem(pod)
            if problem:
                raise CniError(f"could not check {WORDS[family(pod.ip)]} dnat: {problem}")

    def _problem(self, pod: IPNet) -> str:
        """What of the rules for this address is missing, empty if nothing is."""
        of_family = family(pod.ip)
        if not self._may_exist(of_family):
            return f"chain {self._first_chain} not found in iptables table {TABLE}"
        ways = ((self._first_chain, True), (self._first_chain, False), (self._second_chain, True))
        problems = []
        for chain, ours in ways:
            problem = self._problem_with(pod, chain, ours)
            if not problem:
                return ""
            problems.append(problem)
        return problems[0]

    def _problem_with(self, pod: IPNet, chain: str, ours: bool) -> str:
        """The same for rules in that chain, in this plugin's form or in the official one's."""
        entries = self._entry_rules(family(pod.ip), chain, with_ifname=ours)
        rules = [f"{chain} {rule}" for rule in self._dnat_rules(pod) if ours or rule != SPARE_LOCALHOST]
        rules += [f"{DNAT_CHAIN} {rule}" for rule in entries]
        rules += self._shared_rules()
        try:
            firewall.start_iptables(family(pod.ip), TABLE, ["-C " + rule for rule in rules]).wait()
        except FirewallError as error:
            return _missing_rule(error, rules)
        return ""

    def remove(self) -> set[int]:
        """Remove the rules, in both families. Gives the UDP ports that they mapped. Raises CniError.

        With nothing to remove, no program runs.
        """
        places = [of_family for of_family in FAMILIES if self._may_exist(of_family)]
        left = places
        if self._settings.mappings:
            started = {of_family: self._start_fast_removal(of_family) for of_family in places}
            left = [of_family for of_family, transaction in started.items() if not _succeeded(transaction)]
        ports = set() if left == places else self._settings.udp_ports
        return ports | remove_chains(left, self._chains_in)

    def _may_exist(self, of_family: int) -> bool:
        chains = (self._first_chain, self._second_chain)
        return any(firewall.may_have_chain(of_family, TABLE, chain) for chain in chains)

    def _start_fast_removal(self, of_family: int) -> Transaction:
        """Remove exactly what ADD made of this configuration; fails as a whole if the rules are others."""
        chain = self._first_chain
        entries = [f"-D {DNAT_CHAIN} {rule}" for rule in self._entry_rules(of_family, chain)]
        return firewall.start_iptables(of_family, TABLE, [*entries, f"-F {chain}", f"-X {chain}"])


def pod_chain(network: str, container_id: str, ifname: str = "") -> str:
    """The name of a pod's chain; with `ifname`, of a second interface's."""
    return firewall.chain_name(network, container_id + (f"/{ifname}" if ifname else ""), "DN-")


def remove_chains(families: list[int], choose: Callable[[list[str]], set[str]]) -> set[int]:
    """Remove the chains that are chosen, given the table as `iptables -S` prints it; gives their UDP ports."""
    started = []
    ports: set[int] = set()
    for of_family, rules in firewall.list_iptables(TABLE, tuple(families)).items():
        wanted = choose(rules)
        commands = [command for chain in sorted(wanted) for command in removal_commands(rules, chain)]
        ports |= {_port(rule) for rule in rules if rule.split()[1] in wanted and " -p udp " in rule}
        if commands:
            started.append(firewall.start_iptables(of_family, TABLE, commands))
    for transaction in started:
        transaction.wait()
    return ports - {0}


def collect_garbage(network: str, valid: set[Attachment]) -> set[int]:
    """Remove the chains of this network's pods that are not valid any more; gives the UDP ports that they mapped."""

    def stale(rules: list[str]) -> set[str]:
        return {chain for chain in _chains_of(rules, network) if not is_live(chain, _holder(rules, chain))}

    def is_live(chain: str, holder: str) -> bool:
        holders = [one for one in valid if holder in ("", one.ifname)]
        return any(chain in (pod_chain(network, a.container_id), pod_chain(network, *a.key)) for a in holders)

    return remove_chains([f for f in FAMILIES if firewall.may_have_chain(f, TABLE, DNAT_CHAIN)], stale)


def _chains_of(rules: list[str], network: str) -> set[str]:
    """The chains of a network's pods, by the comments on the rules that lead to them."""
    mark = f'--comment "dnat name: \\"{network}\\" id: '
    return {rule.rpartition(" -j ")[2] for rule in rules if rule.startswith(f"-A {DNAT_CHAIN} ") and mark in rule}


def _holder(rules: list[str], chain: str) -> str:
    """The interface that a pod's chain is of, by the comment; empty if there is no such rule, or it does not say."""
    jump = next((rule for rule in rules if rule.startswith("-A ") and rule.endswith(f" -j {chain}")), "")
    return jump.partition(' if: \\"')[2].partition('\\"')[0]


def _port(rule: str) -> int:
    return int(rule.partition(" --dport ")[2].partition(" ")[0] or 0)


def _succeeded(transaction: Transaction) -> bool:
    try:
        transaction.wait()
    except FirewallError:
        return False
    return True


def _missing_rule(error: FirewallError, rules: list[str]) -> str:
    """The rule at the line that iptables-restore complains of; the first line of its input names the table."""
    line = error.output.partition("line ")[2].partition(" ")[0]
    if line.isdigit() and 2 <= int(line) < 2 + len(rules):
        return f"rule {rules[int(line) - 2]} not found in table {TABLE}"
    return error.output
