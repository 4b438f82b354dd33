"""The rules as nft(8) holds them: flannel's tables under flannel's names, and a table of our own for the guard.

    table ip flannel-ipv4, ip6 flannel-ipv6    chains postrtg and forward
    table ip udplane-guard, or ip6             the set of members, and a chain at forward, input and output

All of it changes in one transaction.
"""

import json
from collections.abc import Sequence

from dataplane.kernel.programs import installed, run
from dataplane.kernel.rules import Guard, Rule, RuleSet

MASQUERADE_COMMENT = "flanneld masq"
FORWARD_COMMENT = "flanneld forward"

_FAMILY = {4: "ip", 6: "ip6"}
_GUARD_TABLE = "udplane-guard"
_ATTEMPT = "the rules of the pod network"
_CHAINS = {
    "postrtg": ("type nat hook postrouting priority srcnat; policy accept;", MASQUERADE_COMMENT),
    "forward": ("type filter hook forward priority filter; policy accept;", FORWARD_COMMENT),
}


class Nftables:
    """Rules held by nft(8)."""

    name = "nftables"

    def install(self, rules: Sequence[RuleSet], guards: Sequence[Guard]) -> None:
        """Replace all our tables in one transaction."""
        text = "".join([*map(_table, rules), *map(_guard_table, guards)])
        run(["nft", "-f", "-"], _removal() + text, attempt=_ATTEMPT)

    def remove(self) -> None:
        """Delete all our tables."""
        run(["nft", "-f", "-"], _removal(), attempt=_ATTEMPT)

    def listing(self) -> str:
        """Our tables as nft prints them, without counters."""
        return "".join(run(["nft", "-s", "list", "table", family, name], check=False) for family, name in _names())

    def guarded(self) -> int:
        """Packets that the guard has dropped since it was installed."""
        return sum(_dropped(family) for family in _FAMILY.values())


def base_chains(hook: str) -> list[dict[str, str]]:
    """The nftables chains at `hook`, as in nft's JSON; none where nft cannot say."""
    text = run(["nft", "-j", "list", "chains"], check=False) if installed("nft") else ""
    try:
        items = json.loads(text or "{}").get("nftables", [])
    except ValueError:
        return []
    chains = [item["chain"] for item in items if "chain" in item]
    return [chain for chain in chains if chain.get("hook") == hook]


def _names() -> list[tuple[str, str]]:
    """Family and name of each of our tables."""
    return [("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6"), ("ip", _GUARD_TABLE), ("ip6", _GUARD_TABLE)]


def _removal() -> str:
    """Delete our tables. Adding first is nft's way of not failing where there is none."""
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family, name in _names())


def _table(rules: RuleSet) -> str:
    family = _FAMILY[rules.version]
    text = f"table {family} flannel-ipv{rules.version} {{\n"
    for chain, content in (("postrtg", rules.postrouting), ("forward", rules.forward)):
        if content:
            kind, comment = _CHAINS[chain]
            lines = [f'    {_rule(rule, family, rules.fully_random)} comment "{comment}"\n' for rule in content]
            text += f"  chain {chain} {{\n    {kind}\n{''.join(lines)}  }}\n"
    return text + "}\n"


def _rule(rule: Rule, family: str, fully_random: bool) -> str:
    words = []
    if rule.mark is not None:
        words.append(f"meta mark & {rule.mark:#x} == {rule.mark:#x}")
    for side, match in (("saddr", rule.source), ("daddr", rule.destination)):
        if match is not None:
            words.append(f"{family} {side} {'' if match.inside else '!= '}{match.network}")
    random = " fully-random" if fully_random and rule.action == "masquerade" else ""
    return " ".join([*words, rule.action + random])


def _guard_table(guard: Guard) -> str:
    family = _FAMILY[guard.version]
    members = ", ".join(str(member) for member in sorted(guard.members, key=int))
    to_members = f"udp dport {guard.port} {family} daddr @members"
    pods = [f"{family} saddr {network} counter drop" for network in guard.networks]
    if guard.checks_sources:
        pods.append(f'iifname != "{guard.interface}" fib saddr . iif oif missing counter drop')
    users = ", ".join(f"{first}-{last}" for first, last in guard.foreign_uids)
    return (
        f"table {family} {_GUARD_TABLE} {{\n"
        f"  set members {{ type ipv{guard.version}_addr; elements = {{ {members} }} }}\n"
        f"  chain pods {{\n{''.join(f'    {line}' + chr(10) for line in pods)}  }}\n"
        f"  chain forward {{\n    type filter hook forward priority filter - 1;\n    {to_members} jump pods\n  }}\n"
        f"  chain input {{\n    type filter hook input priority filter - 1;\n    {to_members} jump pods\n  }}\n"
        f"  chain output {{\n    type filter hook output priority filter - 1;\n"
        f"    {to_members} meta skuid {{ {users} }} counter drop\n  }}\n"
        "}\n"
    )


def _dropped(family: str) -> int:
    """The packets that the counters of the guard's table of a family have counted."""
    text = run(["nft", "-j", "list", "table", family, _GUARD_TABLE], check=False)
    items = json.loads(text).get("nftables", []) if text else []
    expressions = [expression for item in items for expression in item.get("rule", {}).get("expr", [])]
    return sum(int(expression["counter"]["packets"]) for expression in expressions if "counter" in expression)
