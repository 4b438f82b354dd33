"""The subnet file (subnet.env): how a node tells the CNI plugins on its host which subnet is theirs.

Shell-style lines, in flannel's order (flannel pkg/subnet/subnet.go); flannel's CNI plugin and ours read them:

    FLANNEL_NETWORK=10.5.0.0/16
    FLANNEL_SUBNET=10.5.52.1/24          the first usable address, not the subnet's base
    FLANNEL_IPV6_NETWORK=fd00:5::/48
    FLANNEL_IPV6_SUBNET=fd00:5:0:34::1/64
    FLANNEL_MTU=1472
    FLANNEL_IPMASQ=true
    UDPLANE_GSO_MAX_SIZE=63500           only if the node wants pods to limit their super-packets

A reader never sees half a file: it is written aside and renamed. It survives the node, so that a node that
starts again asks for the subnet that its pods still have. Anybody may have edited it meanwhile, so reading takes
any bytes: what cannot be understood counts as absent.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from dataplane.addresses import Network
from dataplane.errors import ConfigError, file_error
from dataplane.kernel.leftovers import Leftovers
from dataplane.leases.lease import Subnets

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SubnetFile:
    """The contents of a subnet file. `networks` are the whole pod networks, one of each enabled family."""

    networks: Subnets
    subnets: Subnets
    mtu: int
    ip_masq: bool
    gso_max_size: int | None = None

    def to_text(self) -> str:
        """The file, byte for byte what flannel writes, with our own key last if it is set."""
        lines = []
        for prefix, network, subnet in (
            ("FLANNEL", self.networks.ipv4, self.subnets.ipv4),
            ("FLANNEL_IPV6", self.networks.ipv6, self.subnets.ipv6),
        ):
            if network is not None and subnet is not None:
                lines += [f"{prefix}_NETWORK={network}", f"{prefix}_SUBNET={subnet[1]}/{subnet.prefixlen}"]
        lines += [f"FLANNEL_MTU={self.mtu}", f"FLANNEL_IPMASQ={str(self.ip_masq).lower()}"]
        if self.gso_max_size is not None:
            lines.append(f"UDPLANE_GSO_MAX_SIZE={self.gso_max_size}")
        return "".join(f"{line}\n" for line in lines)

    def write(self, path: Path) -> None:
        """Put the file at `path`, mode 0644, whole or not at all; its directory is made (0755) if need be.

        NodeError if the file system refuses.
        """
        temporary = None
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(self.to_text())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            raise file_error(
                f"cannot write the subnet file {path}: {{}}; choose another with --subnet-file", error
            ) from error

    @classmethod
    def parse(cls, data: bytes) -> "SubnetFile":
        """Read a whole, valid file; ConfigError if a key that the file must have is missing or unreadable."""
        values = _assignments(data)
        networks, subnets = _subnets(values, "NETWORK"), _subnets(values, "SUBNET")
        mtu = _number(values.get("FLANNEL_MTU"))
        if networks is None or subnets is None or mtu is None:
            raise ConfigError("the subnet file lacks FLANNEL_NETWORK, FLANNEL_SUBNET or FLANNEL_MTU; restart the node")
        masq = values.get("FLANNEL_IPMASQ", "").lower() == "true"
        return cls(networks, subnets, mtu, masq, _number(values.get("UDPLANE_GSO_MAX_SIZE")))


@dataclass(frozen=True, slots=True)
class WrittenSubnetFile:
    """`content` at `path`: a `wishes.Wish`. Without the file CNI plugins start no pod."""

    path: Path
    content: SubnetFile

    @property
    def what(self) -> str:
        """Its name."""
        return f"the subnet file {self.path}"

    @property
    def vital(self) -> bool:
        """New pods need it."""
        return True

    @property
    def leftovers(self) -> Leftovers:
        """The file."""
        return Leftovers(files=(self.path,))

    def difference(self) -> str:
        """Whether it is gone or says something else."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return "was gone"
        except OSError as error:
            return f"could not be read ({error.strerror})"
        return "" if data == self.content.to_text().encode() else "was changed"

    def fulfil(self) -> None:
        """Write it."""
        self.content.write(self.path)


def previous_subnets(path: Path) -> Subnets | None:
    """The subnets that the node had when it last wrote `path`, or None if the file does not tell."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    return _subnets(_assignments(data), "SUBNET")


def _assignments(data: bytes) -> dict[str, str]:
    """The `KEY=value` lines of a file; the last of equal keys counts, quotes are taken off."""
    values = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            values[key.strip()] = value.strip().strip("\"'")
    return values


def _subnets(values: dict[str, str], key: str) -> Subnets | None:
    """The networks under FLANNEL_`key` and FLANNEL_IPV6_`key`; of a comma-separated list, the first readable."""
    listed = values.get(f"FLANNEL_{key}", "").split(",") + values.get(f"FLANNEL_IPV6_{key}", "").split(",")
    networks = [network for text in listed if (network := _network(text)) is not None]
    ipv4 = next((network for network in networks if isinstance(network, IPv4Network)), None)
    ipv6 = next((network for network in networks if isinstance(network, IPv6Network)), None)
    return Subnets(ipv4, ipv6) if ipv4 or ipv6 else None


def _network(text: str) -> Network | None:
    address, slash, length = text.strip().partition("/")
    if not slash or not length.isdecimal() or "%" in address:
        return None
    try:
        return ip_network(f"{address}/{length}", strict=False)
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        return None
    return int(text)
