"""macspoofchk: frames from a pod must carry the pod's MAC address, or the bridge drops them.

The rules are those of the official bridge plugin, in the nftables table `bridge nat`:

    chain PREROUTING                      iifname <host veth> jump cni-br-iface-<id>-<ifname>
    chain cni-br-iface-<id>-<ifname>      jump cni-br-iface-<id>-<ifname>-mac
    chain ...-mac                         ether saddr <pod's MAC> return; drop

The official rules do not name the network; an attachment is told by container id and interface.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import CniError
from cni.lib.skel import NAME_REST, Attachment

TABLE = "bridge nat"
BASE_CHAIN = "PREROUTING"
PRIORITY = -300


def _chain(attachment: Attachment) -> str:
    """The pod's chain. An interface name that nft cannot read as part of one is refused."""
    if not NAME_REST.issuperset(attachment.ifname):
        raise CniError(f'macspoofchk cannot be used with the interface name "{attachment.ifname}"')
    return f"cni-br-iface-{attachment.container_id}-{attachment.ifname}"


def setup(attachment: Attachment, host_veth: str, mac: str) -> None:
    """Make the rules, all or none. Raises CniError."""
    chain = _chain(attachment)
    note = f'comment "macspoofchk-{attachment.container_id}-{attachment.ifname}"'
    lines = [
        f"add table {TABLE}",
        f"add chain {TABLE} {BASE_CHAIN} {{ type filter hook prerouting priority {PRIORITY}; }}",
        f"add chain {TABLE} {chain}",
        f"add chain {TABLE} {chain}-mac",
        f"flush chain {TABLE} {chain}",
        f"flush chain {TABLE} {chain}-mac",
        f'add rule {TABLE} {BASE_CHAIN} iifname "{host_veth}" jump {chain} {note}',
        f"add rule {TABLE} {chain} jump {chain}-mac {note}",
        f"add rule {TABLE} {chain}-mac ether saddr {mac} return {note}",
        f"add rule {TABLE} {chain}-mac drop {note}",
    ]
    firewall.start_nft("\n".join(lines) + "\n").wait()


def remove(attachment: Attachment) -> None:
    """Take the rules away, whatever there is of them. Raises CniError."""
    chain = _chain(attachment)
    _remove([rule for rule in _jumps() if f" jump {chain} " in rule])


def collect_garbage(veth_prefix: str, live_veths: set[str]) -> None:
    """Take away the rules of host veths whose names start so and that are not live any more."""
    stale = []
    for rule in _jumps():
        veth = rule.partition(' "')[2].partition('"')[0]
        if veth.startswith(veth_prefix) and veth not in live_veths:
            stale.append(rule)
    _remove(stale)


def _jumps() -> list[str]:
    """The jumps of all pods, with their handles."""
    of_family, table = TABLE.split()
    return [rule for rule in firewall.list_nft(of_family, table, BASE_CHAIN) if " jump cni-br-iface-" in rule]


def _remove(jumps: list[str]) -> None:
    lines = []
    for rule in jumps:
        lines.append(f"delete rule {TABLE} {BASE_CHAIN} handle {rule.rpartition('# handle ')[2]}")
        chain = rule.partition(" jump ")[2].split(" ")[0]
        # Adding makes sure that there is a chain to delete, since a failing line would undo all the others.
        for name in (chain, f"{chain}-mac"):
            lines += [f"add chain {TABLE} {name}", f"flush chain {TABLE} {name}"]
        lines += [f"delete chain {TABLE} {chain}", f"delete chain {TABLE} {chain}-mac"]
    if lines:
        firewall.start_nft("\n".join(lines) + "\n").wait()
