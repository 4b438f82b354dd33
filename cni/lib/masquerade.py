"""Masquerade: a pod's traffic to the world outside its subnet leaves with the node's address.

The rules are those of the official bridge and ptp plugins, so that one can remove what the other made.

iptables, table nat, with one chain for each network and container:

    -A CNI-<hash> -d 10.1.2.0/24 -j ACCEPT            what stays in the subnet is left alone
    -A CNI-<hash> ! -d 224.0.0.0/4 -j MASQUERADE
    -A POSTROUTING -s 10.1.2.3/32 -j CNI-<hash>       one for each address of the pod

nftables, table `inet cni_plugins_masquerade`, with one rule for each address in the chain masq_checks:

    ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment "<hash>-<hash>, net: n, if: eth0, id: c"

Removal finds the rules by their chain name or comment, not by addresses, so it works when the pod is long gone.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.addresses import list_addresses
from cni.lib.errors import CniError
from cni.lib.firewall import IPTABLES, NFTABLES, FirewallError, Transaction
from cni.lib.ip import AF_INET, AF_INET6, IPNet, family, format_ip
from cni.lib.links import find_link
from cni.lib.netns import open_netns_if_present
from cni.lib.nftables import NFPROTO_INET, chain_exists
from cni.lib.process import find_program
from cni.lib.skel import Attachment, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ATTEMPTS = 3
MULTICAST = {AF_INET: "224.0.0.0/4", AF_INET6: "ff00::/8"}
NFT_TABLE = "inet cni_plugins_masquerade"
NFT_CHAIN = "masq_checks"
TABLE_COMMENT = "Masquerading for plugins from github.com/containernetworking/plugins"  # as the official plugins write
CHAIN_COMMENT = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"


class Masquerade:
    """The rules of one attachment: a container's interface in a network."""

    def __init__(self, network: str, attachment: Attachment, backend: str | None) -> None:
        """`backend` is iptables, nftables, or None for whichever the machine has. Raises CniError for another."""
        if backend not in (None, "", IPTABLES, NFTABLES):
            raise CniError(f'unknown ipmasq backend "{backend}"')
        self.network = network
        self.attachment = attachment
        self.backend = backend or firewall.default_backend()
        self._prepared: Transaction | None = None
        self.chain = firewall.chain_name(network, attachment.container_id)

    def prepare(self) -> None:
        """Start the program that `start` will most likely need; `finish` or `abandon` has to follow."""
        nft = self.backend == NFTABLES
        self._prepared = firewall.prepare_nft() if nft else firewall.prepare_iptables(AF_INET)

    def abandon(self) -> None:
        """End a program that was started and is not needed."""
        if self._prepared:
            self._prepared.feed("").wait()
            self._prepared = None

    def start(self, addresses: list[IPNet]) -> list[Transaction]:
        """Begin to make the rules; `finish` has to follow."""
        if self.backend == NFTABLES:
            return [firewall.start_nft(self._nft_script(addresses), self._take_prepared())]
        started = []
        for of_family in (AF_INET, AF_INET6):
            ours = [net for net in addresses if family(net.ip) == of_family]
            if ours:
                prepared = self._take_prepared() if of_family == AF_INET else None
                commands = self._iptables_commands(of_family, ours)
                started.append(firewall.start_iptables(of_family, "nat", commands, prepared))
        return started

    def _take_prepared(self) -> Transaction | None:
        prepared, self._prepared = self._prepared, None
        return prepared

    def finish(self, started: list[Transaction]) -> None:
        """Wait until the rules stand. Raises CniError."""
        self.abandon()
        _wait_all(started)

    def _iptables_commands(self, of_family: int, addresses: list[IPNet]) -> list[str]:
        """What makes the rules. Those of another interface of the pod in this network, in the same chain, stay."""
        note = f"-m comment --comment {firewall.comment(self.network, self.attachment.container_id)}"
        inside = [f"{self.chain} -d {subnet} {note} -j ACCEPT" for subnet in {net.network: None for net in addresses}]
        outside = f"{self.chain} ! -d {MULTICAST[of_family]} {note} -j MASQUERADE"
        jumps = [f"POSTROUTING -s {_host(net)} {note} -j {self.chain}" for net in addresses]
        present = self._present(of_family)
        if f"-N {self.chain}" not in present:
            return [f":{self.chain} - [0:0]", *(f"-A {rule}" for rule in [*inside, outside, *jumps])]
        commands = [f"-I {rule}" for rule in inside if f"-A {rule}" not in present]
        return commands + [f"-A {rule}" for rule in [outside, *jumps] if f"-A {rule}" not in present]

    def _present(self, of_family: int) -> list[str]:
        """The table as `iptables -S` prints it, where the pod's chain may be in it; empty where it cannot be listed."""
        if not firewall.may_have_chain(of_family, "nat", self.chain):
            return []
        try:
            return firewall.list_iptables("nat", (of_family,))[of_family]
        except FirewallError as error:
            if error.incompatible:
                return []
            raise

    def _nft_script(self, addresses: list[IPNet]) -> str:
        lines = [
            f'add table {NFT_TABLE} {{ comment "{TABLE_COMMENT}"; }}',
            f'add chain {NFT_TABLE} masq_checks {{ comment "{CHAIN_COMMENT}"; }}',
            f"add chain {NFT_TABLE} postrouting {{ type nat hook postrouting priority srcnat; }}",
            f"flush chain {NFT_TABLE} postrouting",
            f"add rule {NFT_TABLE} postrouting ip daddr {MULTICAST[AF_INET]} return",
            f"add rule {NFT_TABLE} postrouting ip6 daddr {MULTICAST[AF_INET6]} return",
            f"add rule {NFT_TABLE} postrouting goto masq_checks",
        ]
        note = f'comment "{firewall.nft_comment(self.network, self.attachment)}"'
        for net in addresses:
            ip = "ip" if len(net.ip) == 4 else "ip6"
            match = f"{ip} saddr {format_ip(net.ip)} {ip} daddr != {net.network}"
            lines.append(f"add rule {NFT_TABLE} masq_checks {match} masquerade {note}")
        return "\n".join(lines) + "\n"

    def remove(self) -> None:
        """Remove the rules, whatever there is of them."""
        removal = Removal(self.network, self.attachment)
        removal.start()
        removal.finish()


class Removal:
    """The removal of an attachment's rules, wherever they are: what the configuration says may have changed since.

    `others` are the addresses of the pod's other interfaces, as far as they are known: where one of those is in the
    same network, its rules stay. Whose address a rule names does not matter otherwise, since the pod may have lost or
    changed it. With nothing to remove, no program runs.
    """

    def __init__(self, network: str, attachment: Attachment, others: Sequence[IPNet] = ()) -> None:
        self._chain = firewall.chain_name(network, attachment.container_id)
        self._comment = firewall.nft_comment(network, attachment)
        self._others = others
        self._started: list[Transaction] = []

    def start(self) -> None:
        """Begin to remove the rules; `finish` has to follow."""
        for of_family in (AF_INET, AF_INET6):
            if firewall.may_have_chain(of_family, "nat", self._chain):
                self._started += self._start_iptables(of_family)
        wanted = f'comment "{self._comment}"'
        self._started += start_nft_removal([line for line in list_masq_checks() if wanted in line])

    def _start_iptables(self, of_family: int) -> list[Transaction]:
        try:
            rules = firewall.list_iptables("nat", (of_family,))[of_family]
        except FirewallError as error:
            if not error.incompatible:
                raise
            return start_removal_by_nft(of_family, self._chain, self._others)
        return start_iptables_removal({of_family: removal_commands(rules, self._chain, self._others)})

    def finish(self) -> None:
        """Wait for the removal; if somebody else changed the rules in between, look again."""
        for attempt in range(ATTEMPTS):
            started, self._started = self._started, []
            try:
                _wait_all(started)
                return
            except FirewallError:
                if attempt == ATTEMPTS - 1:
                    raise
                self.start()


def _wait_all(started: list[Transaction]) -> None:
    """Wait for every transaction; raises the first failure when all are done."""
    failure = None
    for transaction in started:
        try:
            transaction.wait()
        except CniError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def removal_of(call: Call) -> Removal:
    """The removal of a DEL's rules."""
    attachment = Attachment(call.container_id, call.ifname)
    return Removal(call.name, attachment, _other_addresses(call) if has_chain(call.name, call.container_id) else [])


def has_chain(network: str, container_id: str) -> bool:
    """Whether there may be rules that all interfaces of a container in a network share."""
    chain = firewall.chain_name(network, container_id)
    return any(firewall.may_have_chain(of_family, "nat", chain) for of_family in (AF_INET, AF_INET6))


def _other_addresses(call: Call) -> list[IPNet]:
    """The addresses on the pod's other interfaces; none where the pod is out of reach."""
    netns = open_netns_if_present(call.netns)
    if netns is None:
        return []
    with netns.netlink() as inside:
        link = find_link(inside, call.ifname)
        own = link.index if link else 0
        return [address.net for address in list_addresses(inside) if address.index != own]


def _host(net: IPNet) -> str:
    return f"{format_ip(net.ip)}/{len(net.ip) * 8}"


def removal_commands(rules: list[str], chain: str, others: Sequence[IPNet] = ()) -> list[str]:
    """What undoes a pod's chain but for the addresses of `others`, given the table as `iptables -S` prints it."""
    jumps = [rule for rule in rules if rule.startswith("-A ") and rule.endswith(f" -j {chain}")]
    staying = [f" -s {_host(net)} " for net in others]
    going = [rule for rule in jumps if not any(source in rule for source in staying)]
    commands = ["-D" + rule[2:] for rule in going]
    if f"-N {chain}" in rules and len(going) == len(jumps):
        commands += [f"-F {chain}", f"-X {chain}"]
    return commands


def start_removal_by_nft(of_family: int, chain: str, others: Sequence[IPNet]) -> list[Transaction]:
    """Begin to remove a pod's iptables chain where somebody has put rules into the table that iptables cannot list."""
    ip = "ip" if of_family == AF_INET else "ip6"
    jumps = [rule for rule in firewall.list_nft(ip, "nat", "POSTROUTING") if f" jump {chain} " in rule]
    staying = [f" saddr {format_ip(net.ip)} " for net in others]
    going = [rule for rule in jumps if not any(source in rule for source in staying)]
    lines = [f"delete rule {ip} nat POSTROUTING handle {rule.rpartition('# handle ')[2]}" for rule in going]
    if len(going) == len(jumps):
        lines += [f"flush chain {ip} nat {chain}", f"delete chain {ip} nat {chain}"]
    return [firewall.start_nft("\n".join([*lines, ""]))] if lines else []


def start_iptables_removal(commands: dict[int, list[str]]) -> list[Transaction]:
    """Begin to run the commands of each family, those that have any."""
    return [firewall.start_iptables(of_family, "nat", lines) for of_family, lines in commands.items() if lines]


def list_masq_checks() -> list[str]:
    """The nftables rules of all pods, with their handles; empty where nft is not installed, or has nothing to show."""
    of_family, table = NFT_TABLE.split()
    if not chain_exists(NFPROTO_INET, table, NFT_CHAIN) or find_program("nft") is None:
        return []
    return firewall.list_nft(of_family, table, NFT_CHAIN)


def start_nft_removal(rules: list[str]) -> list[Transaction]:
    """Begin to delete rules of masq_checks, given as `nft -a` prints them."""
    handles = [rule.rpartition("# handle ")[2] for rule in rules]
    script = "".join(f"delete rule {NFT_TABLE} masq_checks handle {handle}\n" for handle in handles)
    return [firewall.start_nft(script)] if handles else []


def collect_garbage(network: str, valid: set[Attachment]) -> None:
    """Remove the rules of every pod of this network that is not among the valid ones, in both backends."""
    _wait_all([*_start_iptables_garbage(network, valid), *_start_nft_garbage(network, valid)])


def _start_iptables_garbage(network: str, valid: set[Attachment]) -> list[Transaction]:
    started = []
    ids = {attachment.container_id for attachment in valid}
    for of_family in (AF_INET, AF_INET6):
        if not firewall.may_have_chain(of_family, "nat", "POSTROUTING"):
            continue
        try:
            rules = firewall.list_iptables("nat", (of_family,))[of_family]
        except FirewallError as error:
            if error.incompatible:
                continue
            raise
        started += start_iptables_removal({of_family: _stale_chains(rules, network, ids)})
    return started


def _stale_chains(rules: list[str], network: str, ids: set[str]) -> list[str]:
    """The commands that remove the chains of this network's pods that are not among `ids`."""
    start, end = firewall.comment(network, "\0").split("\0")
    owners = {rule.partition(start)[2].partition(end)[0] for rule in rules if start in rule}
    commands = []
    for owner in sorted(owners - ids):
        commands += removal_commands(rules, firewall.chain_name(network, owner))
    return commands


def _start_nft_garbage(network: str, valid: set[Attachment]) -> list[Transaction]:
    comments = {rule: rule.partition(' comment "')[2].partition('"')[0] for rule in list_masq_checks()}
    return start_nft_removal([rule for rule, text in comments.items() if firewall.is_stale_nft(text, network, valid)])
