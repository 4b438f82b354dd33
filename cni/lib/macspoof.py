"""macspoofchk: frames from a pod must carry the pod's MAC address, or the bridge drops them.

The rules are those of the official bridge plugin, in the nftables table `bridge nat`:

    chain PREROUTING                      iifname <host veth> jump cni-br-iface-<id>-<ifname>
    chain cni-br-iface-<id>-<ifname>      jump cni-br-iface-<id>-<ifname>-mac
    chain ...-mac                         ether saddr <pod's MAC> return; drop

The official rules do not name the network. Here the last one does, in its comment: the same container may have had an
interface of the same name in another network, whose late DEL or GC must not take these rules.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import CniError
from cni.lib.nftables import NFPROTO_BRIDGE, chain_exists
from cni.lib.process import find_program
from cni.lib.skel import NAME_REST, Attachment

FAMILY, NAT = "bridge", "nat"
TABLE = f"{FAMILY} {NAT}"
BASE_CHAIN = "PREROUTING"
PRIORITY = -300
CHAIN_PREFIX = "cni-br-iface-"
MAC_SUFFIX = "-mac"


def _chain(attachment: Attachment) -> str:
    return f"{CHAIN_PREFIX}{attachment.container_id}-{attachment.ifname}"


def setup(network: str, attachment: Attachment, host_veth: str, mac: str) -> None:
    """Make the rules, all or none. Raises CniError, also for an interface name that nft cannot read in a chain's."""
    if not NAME_REST.issuperset(attachment.ifname):
        raise CniError(f'macspoofchk cannot be used with the interface name "{attachment.ifname}"')
    chain = _chain(attachment)
    note = f'comment "macspoofchk-{attachment.container_id}-{attachment.ifname}"'
    lines = [
        f"add table {TABLE}",
        f"add chain {TABLE} {BASE_CHAIN} {{ type filter hook prerouting priority {PRIORITY}; }}",
        f"add chain {TABLE} {chain}",
        f"add chain {TABLE} {chain}{MAC_SUFFIX}",
        f"flush chain {TABLE} {chain}",
        f"flush chain {TABLE} {chain}{MAC_SUFFIX}",
        f'add rule {TABLE} {BASE_CHAIN} iifname "{host_veth}" jump {chain} {note}',
        f"add rule {TABLE} {chain} jump {chain}{MAC_SUFFIX} {note}",
        f"add rule {TABLE} {chain}{MAC_SUFFIX} ether saddr {mac} return {note}",
        f'add rule {TABLE} {chain}{MAC_SUFFIX} drop comment "{firewall.nft_comment(network, attachment)}"',
    ]
    firewall.start_nft("\n".join(lines) + "\n").wait()


def remove(network: str, attachment: Attachment) -> None:
    """Take the rules away, whatever there is of them. With nothing to remove, no program runs. Raises CniError."""
    chain = _chain(attachment)
    if not NAME_REST.issuperset(attachment.ifname) or not chain_exists(NFPROTO_BRIDGE, NAT, chain):
        return
    wanted = firewall.nft_comment(network, attachment)
    _remove([one for one in _pod_chains() if one.name == chain and one.owner in ("", wanted)])


def collect_garbage(network: str, valid: set[Attachment]) -> None:
    """Take away the rules of this network's attachments that are not valid any more."""
    if chain_exists(NFPROTO_BRIDGE, NAT, BASE_CHAIN):
        _remove([one for one in _pod_chains() if firewall.is_stale_nft(one.owner, network, valid)])


class _PodChain:
    """A pod's chain: the handles of the jumps to it, and the comment that says whose it is, empty if none does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.jumps: list[str] = []
        self.owner = ""


def _pod_chains() -> list[_PodChain]:
    """The chains of all pods; none where nft is not installed."""
    if find_program("nft") is None:
        return []
    found: dict[str, _PodChain] = {}
    inside = ""
    for line in map(str.strip, firewall.list_nft_table(FAMILY, NAT)):
        if line.startswith("chain "):
            inside = line.split()[1]
            if inside.startswith(CHAIN_PREFIX) and not inside.endswith(MAC_SUFFIX):
                found.setdefault(inside, _PodChain(inside))
        elif inside == BASE_CHAIN and f" jump {CHAIN_PREFIX}" in line:
            name = line.partition(" jump ")[2].split()[0]
            found.setdefault(name, _PodChain(name)).jumps.append(line.rpartition("# handle ")[2])
        elif inside.startswith(CHAIN_PREFIX) and line.startswith("drop ") and ", net: " in line:
            name = inside.removesuffix(MAC_SUFFIX)
            found.setdefault(name, _PodChain(name)).owner = line.partition(' comment "')[2].partition('"')[0]
    return list(found.values())


def _remove(chains: list[_PodChain]) -> None:
    lines = []
    for chain in chains:
        lines += [f"delete rule {TABLE} {BASE_CHAIN} handle {handle}" for handle in chain.jumps]
        # Adding makes sure that there is a chain to delete, since a failing line would undo all the others.
        for name in (chain.name, chain.name + MAC_SUFFIX):
            lines += [f"add chain {TABLE} {name}", f"flush chain {TABLE} {name}"]
        lines += [f"delete chain {TABLE} {chain.name}", f"delete chain {TABLE} {chain.name}{MAC_SUFFIX}"]
    if lines:
        firewall.start_nft("\n".join(lines) + "\n").wait()
