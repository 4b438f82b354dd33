"""A bad wire: loss, duplicates and reordering between the nodes of a lab, by nftables and a slow lane.

    node1 --- port node1 [ingress hook] --- bridge --- port node2 --- node2
                              |  a few: dropped, sent twice, or
                              +--> slow0 [tbf] === slow1 [ingress hook] --> port node2
                                   the slow lane: they arrive behind those that left after them

Every packet is treated by chance, one by one, in both directions. The kernel does it (nft_dup_netdev, nft_fwd_netdev,
sch_tbf), so a wire at full speed is no slower for it than the losses make it.
"""

from dataclasses import dataclass

from dataplane.lab.netns import Namespace, run_lines

SLOW_LANE = "rate 8mbit burst 1600 limit 100000"
"""Arguments of tbf: 1.5 ms for a full packet that follows another one."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """How many of a thousand packets meet which fate."""

    loss: int = 0
    duplication: int = 0
    reordering: int = 0


def impair(underlay: Namespace, ports: tuple[str, str], impairment: Impairment) -> None:
    """Make the wire between two ports of the bridge in `underlay` a bad one, in both directions. Call it once."""
    rules = ["add table netdev impair"]
    for port, other in (ports, ports[::-1]):
        slow = f"{port}-slow"
        underlay.ip(f"link add {slow} up type veth peer name {slow}-end", f"link set {slow}-end up")
        underlay.run(["tc", "qdisc", "add", "dev", slow, "root", "tbf", *SLOW_LANE.split()])
        rules += _rules(port, other, slow, impairment)
    run_lines(["ip", "netns", "exec", underlay.name, "nft", "-f", "-"], rules)


def _rules(port: str, other: str, slow: str, impairment: Impairment) -> list[str]:
    fates = {
        f"dup to {other}": impairment.duplication,
        f"fwd to {slow}": impairment.reordering,
        "drop": impairment.loss,
    }
    return [
        f"add chain netdev impair {port} {{ type filter hook ingress device {port} priority 0; }}",
        f"add chain netdev impair {slow} {{ type filter hook ingress device {slow}-end priority 0; }}",
        f"add rule netdev impair {slow} fwd to {other}",
        *(
            f"add rule netdev impair {port} meta protocol {{ ip, ip6 }} numgen random mod 1000 < {share} {fate}"
            for fate, share in fates.items()
            if share
        ),
    ]
