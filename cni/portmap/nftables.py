"""Port mappings as nftables rules, in the tables of the official plugin: `ip cni_hostport` and `ip6 cni_hostport`.

    prerouting, output    traffic to the host itself -> hostports_all -> hostip_hostports, then hostports
    hostip_hostports      the mappings that name an address of the host, newest first
    hostports             the others, newest first
    masquerading          from a pod to itself, and from localhost: a reply has to come back through the host

Each rule carries network, interface and container in its comment, so that removing one network's mappings of a pod
leaves another's alone. (The official plugin writes the container alone, and has all mappings in hostports; rules that
it made are found by that.)
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import CniError
from cni.lib.ip import AF_INET, AF_INET6, IPNet, family, format_ip
from cni.lib.nftables import chain_exists
from cni.lib.skel import Attachment
from cni.portmap.mapping import HOST_CHAIN, LOCALHOST_V6, NFT_TABLE, Mapping, Settings

NAMES = {AF_INET: "ip", AF_INET6: "ip6"}
HOST_IP_CHAIN = "hostip_hostports"
BOTH_CHAIN = "hostports_all"
MASQ_CHAIN = "masquerading"
FORBIDDEN = frozenset("\n\r;{}#\"'")  # what could end a rule's match and begin something else


class NftablesRules:
    """The rules of one attachment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._comment = firewall.nft_comment(settings.network, settings.attachment)

    def add(self, pods: list[IPNet]) -> None:
        """Make the rules for the pod's addresses, one of each family at most. Raises CniError."""
        if pods:
            snat = self._settings.snat
            lines = [line for pod in pods for line in [*_shared_lines(family(pod.ip), snat), *self._own_lines(pod)]]
            old = [_deletion(rule) for rule in self._own_rules()]
            firewall.start_nft("\n".join(old + lines) + "\n").wait()

    def _own_lines(self, pod: IPNet) -> list[str]:
        table = f"{NAMES[family(pod.ip)]} {NFT_TABLE}"
        rules = [self._dnat_rule(mapping, pod) for mapping in self._settings.mappings if mapping.fits(pod)]
        rules += self._masquerade_rules(pod) if self._settings.snat else []
        return [f'insert rule {table} {chain} {rule} comment "{self._comment}"' for chain, rule in reversed(rules)]

    def _dnat_rule(self, mapping: Mapping, pod: IPNet) -> tuple[str, str]:
        """The chain and the rule of one mapping."""
        parts = [_checked(word) for word in self._settings.conditions[family(pod.ip)]]
        if mapping.destination:
            parts.append(f"{NAMES[family(pod.ip)]} daddr {mapping.destination}")
        elif len(pod.ip) == 16:
            parts.append(f"ip6 daddr != {LOCALHOST_V6}")
        parts.append(f"{mapping.protocol} dport {mapping.host_port} dnat to {mapping.target(pod)}")
        return HOST_IP_CHAIN if mapping.destination else HOST_CHAIN, " ".join(parts)

    def _masquerade_rules(self, pod: IPNet) -> list[tuple[str, str]]:
        name, address = NAMES[family(pod.ip)], format_ip(pod.ip)
        if self._settings.masq_all:
            return [(MASQ_CHAIN, f"{name} daddr {address} ct status dnat masquerade")]
        sources = [address, "127.0.0.1"] if len(pod.ip) == 4 else [address]
        return [(MASQ_CHAIN, f"{name} saddr {source} {name} daddr {address} masquerade") for source in sources]

    def check(self, pods: list[IPNet]) -> None:
        """There have to be as many rules as ADD made. Raises CniError."""
        present = self._own_rules()
        for pod in pods:
            wanted = [_role(line.split()[4]) for line in self._own_lines(pod)]
            table = f"{NAMES[family(pod.ip)]} {NFT_TABLE} "
            found = [_role(rule.chain) for rule in present if rule.table_and_chain.startswith(table)]
            for chain in dict.fromkeys(wanted):
                if found.count(chain) < wanted.count(chain):
                    raise CniError(f'missing hostport rules in "{chain}" chain')

    def remove(self) -> set[int]:
        """Remove the rules, in both families. Gives the UDP ports that they mapped. Raises CniError.

        With nothing to remove, no program runs.
        """
        return _remove(self._own_rules())

    def _own_rules(self) -> list[ListedRule]:
        ours = (self._comment, self._settings.attachment.container_id)
        return [rule for rule in list_rules() if rule.comment in ours]


class ListedRule:
    """A rule as `nft -a list table` prints it, and where it is."""

    __slots__ = ("comment", "handle", "table_and_chain", "text")

    def __init__(self, table_and_chain: str, line: str) -> None:
        self.table_and_chain = table_and_chain
        self.text, _, self.handle = line.rpartition(" # handle ")
        self.comment = self.text.partition(' comment "')[2].rstrip('"')

    @property
    def chain(self) -> str:
        """The chain's name alone."""
        return self.table_and_chain.rpartition(" ")[2]

    @property
    def udp_port(self) -> int:
        """The UDP port that it maps, 0 if none."""
        port = self.text.partition("udp dport ")[2].partition(" ")[0]
        return int(port) if port.isdigit() else 0


def list_rules() -> list[ListedRule]:
    """The rules of all pods in the tables that exist."""
    tables = [f"{NAMES[f]} {NFT_TABLE}" for f in (AF_INET, AF_INET6) if chain_exists(f, NFT_TABLE, HOST_CHAIN)]
    started = [(table, firewall.Transaction(["nft", "-a", "-n", "list", "table", *table.split()])) for table in tables]
    return [rule for table, transaction in started for rule in _parse(table, transaction.wait())]


def _parse(table: str, listing: str) -> list[ListedRule]:
    rules, chain = [], ""
    for line in map(str.strip, listing.splitlines()):
        if line.startswith("chain "):
            chain = line.split()[1]
        elif " # handle " in line and not line.startswith("table "):
            rules.append(ListedRule(f"{table} {chain}", line))
    return rules


def collect_garbage(network: str, valid: set[Attachment]) -> set[int]:
    """Remove the rules of this network's attachments that are not valid any more; gives the UDP ports they mapped."""
    return _remove([rule for rule in list_rules() if firewall.is_stale_nft(rule.comment, network, valid)])


def _remove(rules: list[ListedRule]) -> set[int]:
    if rules:
        firewall.start_nft("".join(_deletion(rule) + "\n" for rule in rules)).wait()
    return {rule.udp_port for rule in rules} - {0}


def _deletion(rule: ListedRule) -> str:
    return f"delete rule {rule.table_and_chain} handle {rule.handle}"


def _role(chain: str) -> str:
    """A chain's name, the same for both that hold mappings: the official plugin makes no difference between them."""
    return HOST_CHAIN if chain == HOST_IP_CHAIN else chain


def _shared_lines(of_family: int, snat: bool) -> list[str]:
    """What all pods share; to add it again changes nothing, and the jumps are written anew."""
    table = f"{NAMES[of_family]} {NFT_TABLE}"
    hook = "{ type nat hook %s priority %s; }"
    lines = [
        f'add table {table} {{ comment "CNI portmap plugin"; }}',
        f"add chain {table} {HOST_CHAIN}",
        f"add chain {table} {HOST_IP_CHAIN}",
        f"add chain {table} {BOTH_CHAIN}",
        f"flush chain {table} {BOTH_CHAIN}",
        f"add rule {table} {BOTH_CHAIN} jump {HOST_IP_CHAIN}",
        f"add rule {table} {BOTH_CHAIN} jump {HOST_CHAIN}",
    ]
    for chain, priority in (("prerouting", "dstnat"), ("output", "-100")):
        lines += [
            f"add chain {table} {chain} {hook % (chain, priority)}",
            f"flush chain {table} {chain}",
            f"add rule {table} {chain} fib daddr type local jump {BOTH_CHAIN}",
        ]
    return [*lines, f"add chain {table} {MASQ_CHAIN} {hook % ('postrouting', 'srcnat')}"] if snat else lines


def _checked(word: str) -> str:
    """A word of a condition. Raises CniError for one that is more than a match."""
    if not FORBIDDEN.isdisjoint(word):
        raise CniError(f"{word!r} cannot be part of a condition")
    return word
