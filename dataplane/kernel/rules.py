"""What the rules of a node say, apart from who writes them down (see `firewall`).

The masquerade rules, for a node with subnet S in the pod network N; the first that fits decides:

1. marked 0x4000 (kube-proxy masquerades it itself): leave alone
2. from S to N: leave alone, pods see each other's addresses
3. from N to S: leave alone
4. not from N, to S: leave alone, so that a service of the node sees its client's address
5. from N to anywhere but multicast: masquerade
6. not from N, to N: masquerade, so that a host outside reaches pods and the answer finds its way back

flannel's nftables mode reads rule 4 as "not from S, to N", which makes its rule 6 unreachable. Both managers here
follow its iptables mode. The forward rules let pods' packets pass.

The guard blocks. A peer takes a datagram for a node's by its address alone, and everything that leaves this host has,
or is masqueraded into, this host's address. So to the overlay port of members nobody sends but the node:

1. what comes from an address of the pod network is dropped
2. what comes in on another interface than the external one, from an address to which the way back is another
   (RFC 3704, strict), is dropped: a pod can write any source into a packet
3. what programs of other users than root and the node's own send is dropped

It knows the members and the port, so that an operator may choose a port that pods use elsewhere (443, say).
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from dataplane.addresses import Address, Network

KUBERNETES_MARK = 0x4000
"""The packet mark by which kube-proxy says that it masquerades a packet itself."""

_MULTICAST: dict[int, Network] = {4: IPv4Network("224.0.0.0/4"), 6: IPv6Network("ff00::/8")}
_LAST_UID = 2**32 - 2


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


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may not send to the UDP `port` of `members`, who are the nodes, this one included, by underlay address.

    `networks` are the pod networks of the underlay's family. `uid` is the node's own user. Without `checks_sources`
    rule 2 is left out, for kernels that cannot look up the way back.
    """

    version: int
    port: int
    interface: str
    members: frozenset[Address]
    networks: tuple[Network, ...]
    uid: int
    checks_sources: bool = True

    @property
    def foreign_uids(self) -> list[tuple[int, int]]:
        """Every user but root and the node's own, as ranges, both ends included."""
        if self.uid == 0:
            return [(1, _LAST_UID)]
        ranges = [(1, self.uid - 1), (self.uid + 1, _LAST_UID)]
        return [(first, last) for first, last in ranges if first <= last]


def masquerade_rules(network: Network, subnet: Network) -> tuple[Rule, ...]:
    """The masquerade rules 1 to 6 of the module's text for the pod network `network` and the node's `subnet`."""
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
