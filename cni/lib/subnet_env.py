"""subnet.env: what the node's overlay daemon tells the flannel plugin about this node's pod subnet.

flanneld and udplane write it, one `KEY=value` a line:

    FLANNEL_NETWORK=10.78.0.0/16          the pod networks of the whole cluster, separated by commas
    FLANNEL_SUBNET=10.78.5.1/24           this node's part, given by its gateway
    FLANNEL_IPV6_NETWORK, FLANNEL_IPV6_SUBNET
    FLANNEL_MTU=1472                      what fits through the tunnel
    FLANNEL_IPMASQ=true                   the daemon masquerades, so the plugins need not
    UDPLANE_GSO_MAX_SIZE=63500            udplane's own: the largest super-packet that its tunnel sends in one piece
"""

from __future__ import annotations

from cni.lib.errors import TRY_AGAIN_LATER, CniError, describe
from cni.lib.ip import IPNet, parse_cidr
from cni.lib.store import read_file

LARGEST_MTU = 1 << 32


class SubnetEnv:
    """The decoded file. Networks keep the file's order, IPv4 before IPv6; subnets are without host bits."""

    def __init__(self, path: str) -> None:
        """Read `path`. Raises CniError with code 11, "try again later": the daemon may just not be up yet."""
        self.networks: list[IPNet] = []
        self.networks_v6: list[IPNet] = []
        self.subnet: IPNet | None = None
        self.subnet_v6: IPNet | None = None
        self.mtu: int | None = None
        self.ip_masq: bool | None = None
        self.gso_max_size = 0
        try:
            content = read_file(path)
        except OSError as error:
            raise _not_loaded(describe(error)) from None
        if content is None:
            raise _not_loaded(f"open {path}: no such file or directory")
        for line in content.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            self._take(key, value)
        missing = self._missing()
        if missing:
            raise _not_loaded(f"{path} is missing {', '.join(missing)}")

    def _take(self, key: str, value: str) -> None:
        if key == "FLANNEL_NETWORK":
            self.networks = _cidrs(key, value)
        elif key == "FLANNEL_IPV6_NETWORK":
            self.networks_v6 = _cidrs(key, value)
        elif key == "FLANNEL_SUBNET":
            self.subnet = _cidr(key, value)
        elif key == "FLANNEL_IPV6_SUBNET":
            self.subnet_v6 = _cidr(key, value)
        elif key == "FLANNEL_MTU":
            self.mtu = _number(key, value)
        elif key == "FLANNEL_IPMASQ":
            self.ip_masq = value == "true"
        elif key == "UDPLANE_GSO_MAX_SIZE":
            self.gso_max_size = _number(key, value)

    def _missing(self) -> list[str]:
        missing = []
        if not self.networks and not self.networks_v6:
            missing += ["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]
        if self.subnet is None and self.subnet_v6 is None:
            missing += ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]
        if self.mtu is None:
            missing.append("FLANNEL_MTU")
        if self.ip_masq is None:
            missing.append("FLANNEL_IPMASQ")
        return missing


def _not_loaded(reason: str) -> CniError:
    return CniError(
        f"failed to load flannel 'subnet.env' file: {reason}. Check the flannel pod log for this node.",
        TRY_AGAIN_LATER,
        "the file is written by the node's overlay daemon, udplane or flanneld, as soon as it has a subnet",
    )


def _cidr(key: str, value: str) -> IPNet:
    net = parse_cidr(value)
    if net is None:
        raise _not_loaded(f"{key}: invalid CIDR address: {value}")
    return net.network


def _cidrs(key: str, value: str) -> list[IPNet]:
    return list(dict.fromkeys(_cidr(key, part) for part in value.split(",")))


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 10 or int(value) >= LARGEST_MTU:
        raise _not_loaded(f'{key}: parsing "{value}": invalid syntax')
    return int(value)
