"""Masquerade and forward rules of the node: flannel's rules under flannel's names, by nftables or by iptables.

What is wanted is said once, as `Rule` values (`masquerade_rules`, `forward_rules`), for IPv4 and IPv6 alike. Two
managers write them down:

- `Nftables`: tables `flannel-ipv4` and `flannel-ipv6` with the chains `postrtg` and `forward`, one transaction
- `Iptables`: chains FLANNEL-POSTRTG (nat) and FLANNEL-FWD (filter), entered from POSTROUTING and FORWARD, with
  one `iptables-restore` each family

`Firewall` chooses. nftables is the first choice, but an accept in one nftables table does not overrule the drop of
another: where Docker or an administrator has set iptables' FORWARD policy to DROP, only a rule in that very chain
lets pods' packets through, so there iptables holds the rules. That is looked at again on each resync, since
Docker may start later than the node.

The masquerade rules, for a node with subnet S in the pod network N; the first that fits decides:

1. marked 0x4000 (kube-proxy masquerades it itself): leave alone
2. from S to N: leave alone, pods see each other's addresses
3. from N to S: leave alone
4. not from N, to S: leave alone, so that a service of the node sees its client's address
5. from N to anywhere but multicast: masquerade
6. not from N, to N: masquerade, so that a host outside reaches pods and the answer finds its way back

flannel's nftables mode reads rule 4 as "not from S, to N", which makes its rule 6 unreachable. Both managers here
follow its iptables mode. Nothing here blocks traffic: these rules only accept and masquerade.
"""

import json
import logging
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Protocol

from dataplane.addresses import Network
from dataplane.errors import NodeError

_log = logging.getLogger(__name__)

KUBERNETES_MARK = 0x4000
"""The packet mark by which kube-proxy says that it masquerades a packet itself."""

_MULTICAST: dict[int, Network] = {4: IPv4Network("224.0.0.0/4"), 6: IPv6Network("ff00::/8")}
_MASQUERADE_COMMENT = "flanneld masq"
_FORWARD_COMMENT = "flanneld forward"
_COMMAND_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Match:
    """A source or destination: inside of `network`, or outside of it."""

    network: Network
    inside: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a chain. `action` is return, accept or masquerade; absent conditions fit every packet."""

    action: str
    source: Match | None = None
    destination: Match | None = None
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one family: those for packets that leave the host, and those for packets that pass through."""

    version: int
    postrouting: tuple[Rule, ...]
    forward: tuple[Rule, ...]
    fully_random: bool = True


def masquerade_rules(network: Network, subnet: Network) -> tuple[Rule, ...]:
    """The rules 1 to 6 of the module's text for the pod network `network` and the node's `subnet`."""
    cluster, pods = Match(network), Match(subnet)
    outside = Match(network, inside=False)
    return (
        Rule("return", mark=KUBERNETES_MARK),
        Rule("return", pods, cluster),
        Rule("return", cluster, pods),
        Rule("return", outside, pods),
        Rule("masquerade", cluster, Match(_MULTICAST[network.version], inside=False)),
        Rule("masquerade", outside, cluster),
    )


def forward_rules(network: Network) -> tuple[Rule, ...]:
    """Let traffic from and to the pod network pass."""
    return Rule("accept", source=Match(network)), Rule("accept", destination=Match(network))


class Manager(Protocol):
    """A program that holds rules in the kernel."""

    name: str

    def install(self, rules: Sequence[RuleSet]) -> None:
        """Put exactly these rules in place of any of ours, each family all or nothing. NodeError if that fails."""

    def remove(self) -> None:
        """Take our rules away; no error if there are none."""

    def listing(self) -> str:
        """Our rules as the kernel has them now; the same text as long as nobody touches them, empty for none."""


class Nftables:
    """Rules held by nft(8)."""

    name = "nftables"

    def install(self, rules: Sequence[RuleSet]) -> None:
        """Replace both tables in one transaction."""
        _run(["nft", "-f", "-"], _nft_removal() + "".join(map(_nft_table, rules)))

    def remove(self) -> None:
        """Delete both tables."""
        _run(["nft", "-f", "-"], _nft_removal())

    def listing(self) -> str:
        """Both tables as nft prints them, without counters."""
        listed = [_run(["nft", "-s", "list", "table", *_nft_name(version)], check=False) for version in (4, 6)]
        return "".join(listed)


class Iptables:
    """Rules held by iptables(8) and ip6tables(8), of either kind (legacy or nf_tables)."""

    name = "iptables"

    def install(self, rules: Sequence[RuleSet]) -> None:
        """Rebuild our chains and enter them where that is not done yet, one restore each family."""
        for family in rules:
            present = self._lines(family.version)
            _run([_iptables(family.version, "restore"), "-w", "5", "--noflush"], _iptables_text(family, present))

    def remove(self) -> None:
        """Take our chains out of the built-in ones and delete them."""
        for version in (4, 6):
            if present := self._lines(version):
                _run([_iptables(version, "restore"), "-w", "5", "--noflush"], _iptables_removal(present))

    def listing(self) -> str:
        """The lines of iptables-save that name our chains."""
        return "\n".join(line for version in (4, 6) for lines in self._lines(version).values() for line in lines)

    @staticmethod
    def _lines(version: int) -> dict[str, list[str]]:
        """Table -> the lines of iptables-save in it that name our chains, without their counters."""
        ours: dict[str, list[str]] = {}
        table = ""
        if not shutil.which(_iptables(version, "save")):
            return ours
        for line in _run([_iptables(version, "save")], check=False).splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif any(chain in line for chain, _, _ in _IPTABLES_CHAINS.values()):
                ours.setdefault(table, []).append(line.partition(" [")[0])
        return ours


class Firewall:
    """The rules of one node, kept in place.

    `choice` is auto, nftables or iptables. `manager` tells who holds the rules now, or None before `ensure`.
    """

    def __init__(self, rules: Sequence[RuleSet], choice: str = "auto") -> None:
        self.manager: Manager | None = None
        self._rules = [rule_set for rule_set in rules if rule_set.postrouting or rule_set.forward]
        self._choice = choice
        self._expected = ""
        self._removed = False

    def ensure(self) -> bool:
        """Put the rules in place if they are not there as they were left; True if something had to be done.

        Blocks for some milliseconds. NodeError if the rules cannot be installed.
        """
        if not self._rules:
            self._remove_once()
            return False
        manager = self._choose()
        if self.manager is not None and manager.name == self.manager.name and manager.listing() == self._expected:
            return False
        for other in _managers():
            if other.name != manager.name:
                other.remove()
        manager.install(self._rules)
        self.manager, self._expected = manager, manager.listing()
        return True

    def _remove_once(self) -> None:
        """Take away what an earlier start with other flags has left."""
        if not self._removed:
            remove_rules()
            self._removed = True

    def _choose(self) -> Manager:
        usable = {manager.name: manager for manager in _managers()}
        if self._choice != "auto":
            if self._choice not in usable:
                program = {"nftables": "nft", "iptables": "iptables-restore"}[self._choice]
                raise NodeError(f"--firewall {self._choice} needs {program}; on Debian: apt-get install {self._choice}")
            return usable[self._choice]
        if not usable:
            raise NodeError("the rules of the pod network need nft or iptables; on Debian: apt-get install nftables")
        if "iptables" in usable and any(iptables_drops_forwarded(rules.version) for rules in self._rules):
            return usable["iptables"]
        return usable.get("nftables") or usable["iptables"]


def remove_rules() -> None:
    """Take our rules away, whoever holds them."""
    for manager in _managers():
        manager.remove()


def iptables_drops_forwarded(version: int) -> bool:
    """Whether the policy of iptables' own FORWARD chain is DROP, as Docker sets it.

    Asked so that it never makes the kernel load iptables' tables: on a host that does not use them nothing drops.
    """
    if _legacy_table_in_use(version):
        return "-P FORWARD DROP" in _run([_iptables(version, ""), "-w", "5", "-S", "FORWARD"], check=False)
    family, name = {4: "ip", 6: "ip6"}[version], ("filter", "FORWARD")
    return any(
        (chain["family"], chain["table"], chain["name"]) == (family, *name) and chain["policy"] == "drop"
        for chain in base_chains("forward")
    )


def base_chains(hook: str) -> list[dict[str, Any]]:
    """The nftables chains at `hook`, as in nft's JSON; none where nft is missing or cannot say."""
    if shutil.which("nft") is None:
        return []
    text = _run(["nft", "-j", "list", "chains"], check=False)
    try:
        items = json.loads(text or "{}").get("nftables", [])
    except ValueError:
        return []
    chains = [item["chain"] for item in items if "chain" in item]
    return [chain for chain in chains if chain.get("hook") == hook]


def _managers() -> list[Manager]:
    """Those that work on this host, the preferred one first. nft(8) alone is not enough: old kernels lack nf_tables."""
    managers: list[Manager] = []
    if shutil.which("nft") and _succeeds(["nft", "list", "tables"]):
        managers.append(Nftables())
    if shutil.which(_iptables(4, "restore")):
        managers.append(Iptables())
    return managers


def _legacy_table_in_use(version: int) -> bool:
    names = Path("/proc/net", {4: "ip_tables_names", 6: "ip6_tables_names"}[version])
    try:
        return "filter" in names.read_text().split()
    except OSError:
        return False


def _succeeds(command: Sequence[str]) -> bool:
    return _execute(command, "").returncode == 0


def _run(command: Sequence[str], text: str = "", *, check: bool = True) -> str:
    """Run a program with `text` on its stdin and return what it prints; NodeError if `check` and it fails."""
    done = _execute(command, text)
    if check and done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NodeError(f"{command[0]} refuses the rules of the pod network: {reason}; try the other --firewall")
    return done.stdout if done.returncode == 0 else ""


def _execute(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"cannot run {command[0]}: {error}; the rules of the pod network need it") from error


_NFT_CHAINS = {
    "postrtg": ("type nat hook postrouting priority srcnat; policy accept;", _MASQUERADE_COMMENT),
    "forward": ("type filter hook forward priority filter; policy accept;", _FORWARD_COMMENT),
}


def _nft_name(version: int) -> tuple[str, str]:
    """Family and name of our table."""
    return {4: ("ip", "flannel-ipv4"), 6: ("ip6", "flannel-ipv6")}[version]


def _nft_removal() -> str:
    """Delete both tables. Adding first is nft's way of not failing where there is none."""
    names = [" ".join(_nft_name(version)) for version in (4, 6)]
    return "".join(f"add table {name}\ndelete table {name}\n" for name in names)


def _nft_table(rules: RuleSet) -> str:
    family, name = _nft_name(rules.version)
    text = f"table {family} {name} {{\n"
    for chain, content in (("postrtg", rules.postrouting), ("forward", rules.forward)):
        if content:
            kind, comment = _NFT_CHAINS[chain]
            lines = [f'    {_nft_rule(rule, family, rules.fully_random)} comment "{comment}"\n' for rule in content]
            text += f"  chain {chain} {{\n    {kind}\n{''.join(lines)}  }}\n"
    return text + "}\n"


def _nft_rule(rule: Rule, family: str, fully_random: bool) -> str:
    words = []
    if rule.mark is not None:
        words.append(f"meta mark & {rule.mark:#x} == {rule.mark:#x}")
    for side, match in (("saddr", rule.source), ("daddr", rule.destination)):
        if match is not None:
            words.append(f"{family} {side} {'' if match.inside else '!= '}{match.network}")
    random = " fully-random" if fully_random and rule.action == "masquerade" else ""
    return " ".join([*words, rule.action + random])


_IPTABLES_CHAINS = {
    "nat": ("FLANNEL-POSTRTG", "POSTROUTING", _MASQUERADE_COMMENT),
    "filter": ("FLANNEL-FWD", "FORWARD", _FORWARD_COMMENT),
}
"""Table -> our chain, the built-in chain from which it is entered, the comment of its rules."""


def _iptables(version: int, program: str) -> str:
    """`iptables-restore`, `ip6tables-save`, ...; without `program`, the plain one."""
    return {4: "iptables", 6: "ip6tables"}[version] + (f"-{program}" if program else "")


def _iptables_text(rules: RuleSet, present: dict[str, list[str]]) -> str:
    """Input for iptables-restore: a chain that is named in it is emptied first, or made."""
    text = ""
    for table, content in (("nat", rules.postrouting), ("filter", rules.forward)):
        chain, parent, comment = _IPTABLES_CHAINS[table]
        if not content:
            text += _iptables_removal({table: present.get(table, [])})
            continue
        lines = [f":{chain} - [0:0]"]
        if not any(line.startswith(f"-A {parent} ") for line in present.get(table, [])):
            lines.append(f'-A {parent} -m comment --comment "{comment}" -j {chain}')
        lines += [f"-A {chain} {_iptables_rule(rule, comment, rules.fully_random)}" for rule in content]
        text += _iptables_table(table, lines)
    return text


def _iptables_removal(present: dict[str, list[str]]) -> str:
    """Input for iptables-restore that deletes the entries into our chains, then the chains."""
    text = ""
    for table, lines in present.items():
        if table not in _IPTABLES_CHAINS or not lines:
            continue
        chain, parent, _ = _IPTABLES_CHAINS[table]
        entries = [line.replace("-A", "-D", 1) for line in lines if line.startswith(f"-A {parent} ")]
        text += _iptables_table(table, [f":{chain} - [0:0]", *entries, f"-X {chain}"])
    return text


def _iptables_table(table: str, lines: Iterable[str]) -> str:
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _iptables_rule(rule: Rule, comment: str, fully_random: bool) -> str:
    words = []
    for option, match in (("-s", rule.source), ("-d", rule.destination)):
        if match is not None:
            words.append(f"{'' if match.inside else '! '}{option} {match.network}")
    if rule.mark is not None:
        words.append(f"-m mark --mark {rule.mark:#x}/{rule.mark:#x}")
    random = " --random-fully" if fully_random and rule.action == "masquerade" else ""
    return f'{" ".join(words)} -m comment --comment "{comment}" -j {rule.action.upper()}{random}'
