"""What a host's routing decided: the rule, the table, the prefix and the next hop, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dataplane.lab.dissect import Layer
from dataplane.lab.walking.looks import Looks

REASONS = {
    "Network is unreachable": "no_route",
    "No route to host": "forwarding_off",
    "Invalid cross-device link": "rp_filter",
    "Permission denied": "prohibited",
    "Invalid argument": "blackhole",
    "Network is down": "interface_down",
}
"""What the kernel says to `ip route get`, and the reason's name. A host that is no router says that there is no route
to the host (EHOSTUNREACH), and reverse path filtering calls the packet one of another link (EXDEV)."""


@dataclass(slots=True)
class Decision:
    """What a host does with packets of that source and destination."""

    reason: str = ""
    """Why it has no way; empty when it has one."""
    kind: str = "unicast"
    device: str = ""
    via: str = ""
    prefix: str = ""
    """The route's destination: what the address was compared with."""
    table: str = ""
    rule: str = ""
    """The rule that led to the table."""
    mtu: int = 0
    see: list[int] = field(default_factory=list)

    @property
    def args(self) -> dict[str, Any]:
        """For sentences."""
        return {
            "dev": self.device,
            "via": self.via,
            "prefix": self.prefix,
            "table": self.table,
            "rule": self.rule,
            "kind": self.kind,
        }


def decide(looks: Looks, where: str, network: Layer, came_in_by: str) -> Decision:
    """What the host `where` decides for a packet with this IP header; `came_in_by` is empty for one of its own."""
    family = "-6 " if network.name == "IPv6" else ""
    selector = f"{network['to']} from {network['from']}" + (f" iif {came_in_by}" if came_in_by else "")
    decision = Decision(see=[looks.run(where, f"ip {family}route get {selector}")])
    found = _first(looks, where, f"ip {family}-json -details route get fibmatch {selector}")
    if not found:
        found = _first(looks, where, f"ip {family}-json -details route get {selector}")
    if not found:
        said = looks.output(decision.see[0])
        decision.reason = next((reason for words, reason in REASONS.items() if words in said), "no_route")
        if decision.reason == "blackhole" and came_in_by and not _is_blackhole(looks, where, family, network["to"]):
            decision.reason = "rp_filter"
        return decision
    _fill(decision, found)
    rules = looks.objects(where, f"ip {family}-json rule")
    decision.rule = _rule(rules, decision.table)
    if len(rules) > (2 if family else 3):
        decision.see.append(looks.run(where, f"ip {family}rule"))
    return decision


def _is_blackhole(looks: Looks, where: str, family: str, address: str) -> bool:
    """Whether the route to an address is a blackhole: newer kernels say the same of a source that they refuse."""
    found = _first(looks, where, f"ip {family}-json -details route get fibmatch {address}")
    return not found or found.get("type") == "blackhole"


def _first(looks: Looks, where: str, command: str) -> dict[str, Any]:
    return next(iter(looks.objects(where, command)), {})


def _fill(decision: Decision, found: dict[str, Any]) -> None:
    decision.kind = str(found.get("type", "unicast"))
    decision.device = str(found.get("dev", ""))
    via = found.get("gateway") or found.get("via", {}).get("host", "") if isinstance(found.get("via", {}), dict) else ""
    decision.via = str(via)
    decision.prefix = str(found.get("dst", ""))
    decision.table = str(found.get("table", "main"))
    metrics = found.get("metrics") or [{}]
    decision.mtu = int(metrics[0].get("mtu", 0)) if isinstance(metrics[0], dict) else 0
    refusals = {"blackhole": "blackhole", "unreachable": "no_route", "prohibit": "prohibited"}
    decision.reason = refusals.get(decision.kind, "")


def _rule(rules: list[dict[str, Any]], table: str) -> str:
    """The first rule that leads to that table, as `ip rule` writes it."""
    for rule in rules:
        if str(rule.get("table", "")) == table:
            source = str(rule.get("src", "all"))
            return f"{rule.get('priority', 0)}: from {source} lookup {table}"
    return ""
