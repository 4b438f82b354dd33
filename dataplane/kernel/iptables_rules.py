"""The rules as iptables(8) and ip6tables(8) hold them, of either kind (nf_tables or legacy).

Chains of ours are entered from the built-in ones, all of a family in one iptables-restore:

    nat     POSTROUTING -> FLANNEL-POSTRTG
    filter  FORWARD -> FLANNEL-FWD
    mangle  FORWARD, INPUT -> UDPLANE-PODS -> UDPLANE-GUARD <- PREROUTING, POSTROUTING

The guard is not in the filter table, where an accept of others that comes first is the last word: Docker and kube-proxy
put theirs there anew at each start. In mangle they mark packets and accept none. There are no sets without ipset(8), so
UDPLANE-GUARD has one line a member; only datagrams for the overlay port get there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.kernel.nft_rules import FORWARD_COMMENT, MASQUERADE_COMMENT
from dataplane.kernel.programs import installed, run
from dataplane.kernel.rules import Guard, Rule, RuleSet

_POSTROUTING, _FORWARD, _PODS, _GUARD = "FLANNEL-POSTRTG", "FLANNEL-FWD", "UDPLANE-PODS", "UDPLANE-GUARD"
_OURS = (_POSTROUTING, _FORWARD, _PODS, _GUARD)
_ATTEMPT = "the rules of the pod network"


@dataclass(slots=True)
class _Table:
    """What one table shall have of ours: chains with their rules, and the lines of built-in chains that enter them."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)


class Iptables:
    """Rules held by one kind of iptables(8): `iptables`, the system's choice, or `iptables-legacy`."""

    def __init__(self, name: str = "iptables") -> None:
        self.name = name

    def install(self, rules: Sequence[RuleSet], guards: Sequence[Guard]) -> None:
        """Rebuild our chains and enter them, one restore each family."""
        families: dict[int, dict[str, _Table]] = {4: {}, 6: {}}
        families |= {family.version: _pod_tables(family) for family in rules}
        for guard in guards:
            _add_guard(families[guard.version], guard)
        for version, wanted in families.items():
            present = self._lines(version)
            if present or wanted:
                self._restore(version, present, wanted)

    def remove(self) -> None:
        """Take our chains out of the built-in ones and delete them."""
        for version in (4, 6):
            if present := self._lines(version):
                self._restore(version, present, {})

    def listing(self) -> str:
        """The lines of iptables-save that name our chains."""
        return "\n".join(line for version in (4, 6) for lines in self._lines(version).values() for line in lines)

    def guarded(self) -> int:
        """Packets that the guard has dropped since it was installed."""
        dropping = [line for version in (4, 6) for line in self._save(version, "-c") if line.endswith("-j DROP")]
        return sum(int(line[1 : line.index(":")]) for line in dropping if f"-A {_GUARD} " in line)

    def _restore(self, version: int, present: dict[str, list[str]], wanted: dict[str, _Table]) -> None:
        text = "".join(
            _restore_text(table, present.get(table, []), wanted.get(table, _Table()))
            for table in dict.fromkeys([*wanted, *present])
        )
        run([self._program(version, "restore"), "-w", "5", "--noflush"], text, attempt=_ATTEMPT)

    def _lines(self, version: int) -> dict[str, list[str]]:
        """Table -> the lines of iptables-save in it that name our chains, without their counters."""
        ours: dict[str, list[str]] = {}
        table = ""
        for line in self._save(version):
            if line.startswith("*"):
                table = line[1:]
            elif any(chain in line for chain in _OURS):
                ours.setdefault(table, []).append(line.partition(" [")[0])
        return ours

    def _save(self, version: int, *flags: str) -> list[str]:
        program = self._program(version, "save")
        return run([program, *flags], check=False).splitlines() if installed(program) else []

    def _program(self, version: int, verb: str) -> str:
        """`iptables-restore`, `ip6tables-legacy-save`, ..."""
        return f"{self.name if version == 4 else self.name.replace('iptables', 'ip6tables')}-{verb}"


def legacy_table_in_use(version: int) -> bool:
    """Whether the kernel has the filter table of legacy iptables loaded; asking does not load it."""
    names = Path("/proc/net", {4: "ip_tables_names", 6: "ip6_tables_names"}[version])
    try:
        return "filter" in names.read_text().split()
    except OSError:
        return False


def _pod_tables(rules: RuleSet) -> dict[str, _Table]:
    """Masquerade and forward rules of one family."""
    tables = {}
    for table, chain, parent, comment, content in (
        ("nat", _POSTROUTING, "POSTROUTING", MASQUERADE_COMMENT, rules.postrouting),
        ("filter", _FORWARD, "FORWARD", FORWARD_COMMENT, rules.forward),
    ):
        if content:
            lines = [_rule(rule, comment, rules.fully_random) for rule in content]
            tables[table] = _Table({chain: lines}, last=[f'{parent} -m comment --comment "{comment}" -j {chain}'])
    return tables


def _rule(rule: Rule, comment: str, fully_random: bool) -> str:
    words = []
    for option, match in (("-s", rule.source), ("-d", rule.destination)):
        if match is not None:
            words.append(f"{'' if match.inside else '! '}{option} {match.network}")
    if rule.mark is not None:
        words.append(f"-m mark --mark {rule.mark:#x}/{rule.mark:#x}")
    random = " --random-fully" if fully_random and rule.action == "masquerade" else ""
    return f'{" ".join(words)} -m comment --comment "{comment}" -j {rule.action.upper()}{random}'


def _add_guard(tables: dict[str, _Table], guard: Guard) -> None:
    """The guard's part of the tables of the underlay's family."""
    to_port = f"-p udp -m udp --dport {guard.port}"
    members = [f"-d {member} -j DROP" for member in sorted(guard.members, key=int)]
    table = tables.setdefault("mangle", _Table())
    table.chains |= {_PODS: [f"-s {network} -j {_GUARD}" for network in guard.networks], _GUARD: members}
    table.first += [f"{parent} {to_port} -j {_PODS}" for parent in ("FORWARD", "INPUT")]
    # Not at OUTPUT, which comes before the destination is translated.
    table.first += [
        f"POSTROUTING {to_port} -m owner --uid-owner {first}-{last} -j {_GUARD}" for first, last in guard.foreign_uids
    ]
    if guard.checks_sources:
        table.first.append(f"PREROUTING ! -i {guard.interface} {to_port} -m rpfilter --invert -j {_GUARD}")


def _restore_text(table: str, present: Sequence[str], wanted: _Table) -> str:
    """Input for iptables-restore that makes of `present`, our lines in a table, what is wanted there."""
    return "\n".join([f"*{table}", *_restore_lines(present, wanted), "COMMIT", ""])


def _restore_lines(present: Sequence[str], wanted: _Table) -> Iterator[str]:
    """A chain that is named is emptied, or made; entries are taken out and put in anew, which keeps them in order."""
    stale = [chain for chain in _declared(present) if chain not in wanted.chains]
    yield from (f":{chain} - [0:0]" for chain in [*wanted.chains, *stale])
    yield from (line.replace("-A", "-D", 1) for line in present if _is_entry(line))
    yield from (f"-I {line}" for line in reversed(wanted.first))
    yield from (f"-A {line}" for line in wanted.last)
    yield from (f"-A {chain} {line}" for chain, lines in wanted.chains.items() for line in lines)
    yield from (f"-X {chain}" for chain in stale)


def _declared(lines: Iterable[str]) -> list[str]:
    """The chains of ours that there are; iptables-save names each in a line such as `:FLANNEL-FWD -`."""
    return [line[1:].split()[0] for line in lines if line.startswith(":")]


def _is_entry(line: str) -> bool:
    """Whether a line belongs to a built-in chain, and so leads into one of ours."""
    return line.startswith("-A ") and line.split()[1] not in _OURS
