"""Port mappings as iptables rules, in the chains and forms of the official plugin. All in the table nat:

    PREROUTING, OUTPUT    traffic to the host itself             -> CNI-HOSTPORT-DNAT
    CNI-HOSTPORT-DNAT     the ports of each pod, newest first    -> CNI-DN-<hash of network and container>
    CNI-DN-<hash>         for each mapping: from the pod's own subnet or from localhost -> CNI-HOSTPORT-SETMARK;
                          then DNAT to the pod
    CNI-HOSTPORT-SETMARK  set the mark that asks for masquerade
    POSTROUTING           -> CNI-HOSTPORT-MASQ, which masquerades what is marked

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
from cni.lib.nftables import chain_exists, legacy_table_in_use
from cni.lib.skel import Attachment
from cni.portmap.mapping import Mapping, Settings

TABLE = "nat"
DNAT_CHAIN = "CNI-HOSTPORT-DNAT"
SETMARK_CHAIN = "CNI-HOSTPORT-SETMARK"
MASQ_CHAIN = "CNI-HOSTPORT-MASQ"
PORTS_PER_RULE = 15  # as many as the multiport match takes
COMMENT_BYTES = 255
FAMILIES = (AF_INET, AF_INET6)
WORDS = {AF_INET: "ipv4", AF_INET6: "ipv6"}


class IptablesRules:
    """The rules of one attachment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.chain = pod_chain(settings.network, settings.attachment.container_id)

    def add(self, pods: list[IPNet]) -> None:
        """Make the rules for the pod's addresses, one of each family at most. Raises CniError."""
        started = [(pod, self._start_fast(pod)) for pod in pods]
        failed = [pod for pod, transaction in started if transaction is None or not _succeeded(transaction)]
        for pod in failed:
            self._add_slowly(pod)

    def _start_fast(self, pod: IPNet) -> Transaction | None:
        """The one transaction of an ordinary ADD; None when the pod has rules already, which the slow way replaces."""
        if chain_exists(family(pod.ip), TABLE, self.chain):
            return None
        checks = ["-C " + rule for rule in self._shared_rules()]
        return firewall.start_iptables(family(pod.ip), TABLE, checks + self._own_commands(pod))

    def _add_slowly(self, pod: IPNet) -> None:
        with NetnsLock():
            present = firewall.list_iptables(TABLE)[family(pod.ip)]
            commands = self._missing_commands(present)
            commands += [rule for rule in removal_commands(present, self.chain) if rule.startswith("-D")]
            firewall.start_iptables(family(pod.ip), TABLE, commands + self._own_commands(pod)).wait()

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

    def _own_commands(self, pod: IPNet) -> list[str]:
        """What makes the pod's chain and leads to it."""
        entries = [f"-I {DNAT_CHAIN} {rule}" for rule in reversed(self._entry_rules(family(pod.ip)))]
        return [f":{self.chain} - [0:0]", *(f"-A {self.chain} {rule}" for rule in self._dnat_rules(pod)), *entries]

    def _entry_rules(self, of_family: int) -> list[str]:
        """The rules that lead to the pod's chain: one for each protocol and fifteen ports."""
        settings = self._settings
        text = f'dnat name: "{settings.network}" id: "{settings.attachment.container_id}"'
        comment = firewall.quote(text if len(text) <= COMMENT_BYTES else text[:253] + "...")
        conditions = "".join(" " + firewall.quote(word) for word in settings.conditions[of_family])
        rules = []
        for protocol in sorted({mapping.protocol for mapping in settings.mappings}):
            ports = [str(mapping.host_port) for mapping in settings.mappings if mapping.protocol == protocol]
            for at in range(0, len(ports), PORTS_PER_RULE):
                some = ",".join(ports[at : at + PORTS_PER_RULE])
                match = f"-p {protocol} -m comment --comment {comment} -m multiport --dports {some}{conditions}"
                rules.append(f"{match} -j {self.chain}")
        return rules

    def _dnat_rules(self, pod: IPNet) -> list[str]:
        return [
            rule for mapping in self._settings.mappings if mapping.fits(pod) for rule in self._rules_of(mapping, pod)
        ]

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
            return f"chain {self.chain} not found in iptables table {TABLE}"
        rules = [f"{self.chain} {rule}" for rule in self._dnat_rules(pod)]
        rules += [f"{DNAT_CHAIN} {rule}" for rule in self._entry_rules(of_family)]
        rules += self._shared_rules()
        try:
            firewall.start_iptables(of_family, TABLE, ["-C " + rule for rule in rules]).wait()
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
        return ports | remove_chains({self.chain}, left) if left else ports

    def _may_exist(self, of_family: int) -> bool:
        return chain_exists(of_family, TABLE, self.chain) or legacy_table_in_use(of_family, TABLE)

    def _start_fast_removal(self, of_family: int) -> Transaction:
        """Remove exactly what ADD made of this configuration; fails as a whole if the rules are others."""
        entries = [f"-D {DNAT_CHAIN} {rule}" for rule in self._entry_rules(of_family)]
        return firewall.start_iptables(of_family, TABLE, [*entries, f"-F {self.chain}", f"-X {self.chain}"])


def pod_chain(network: str, container_id: str) -> str:
    """The name of a pod's chain."""
    return firewall.chain_name(network, container_id, "DN-")


def remove_chains(
    chains: set[str] | None, families: list[int], network: str = "", keep: frozenset[str] = frozenset()
) -> set[int]:
    """Remove pods' chains, found by looking at the table; gives the UDP ports that they mapped.

    The chains are the given ones or, without any, all of the network's but those to keep.
    """
    started = []
    ports: set[int] = set()
    for of_family, rules in firewall.list_iptables(TABLE).items():
        if of_family not in families:
            continue
        wanted = chains if chains is not None else _chains_of(rules, network) - keep
        commands = [command for chain in sorted(wanted) for command in removal_commands(rules, chain)]
        ports |= {_port(rule) for rule in rules if rule.split()[1] in wanted and " -p udp " in rule}
        if commands:
            started.append(firewall.start_iptables(of_family, TABLE, commands))
    for transaction in started:
        transaction.wait()
    return ports - {0}


def collect_garbage(network: str, valid: set[Attachment]) -> set[int]:
    """Remove the chains of this network's pods that are not valid any more; gives the UDP ports that they mapped."""
    families = [f for f in FAMILIES if chain_exists(f, TABLE, DNAT_CHAIN) or legacy_table_in_use(f, TABLE)]
    if not families:
        return set()
    keep = frozenset(pod_chain(network, attachment.container_id) for attachment in valid)
    return remove_chains(None, families, network, keep)


def _chains_of(rules: list[str], network: str) -> set[str]:
    """The chains of a network's pods, by the comments on the rules that lead to them."""
    mark = f'--comment "dnat name: \\"{network}\\" id: '
    return {rule.rpartition(" -j ")[2] for rule in rules if rule.startswith(f"-A {DNAT_CHAIN} ") and mark in rule}


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
