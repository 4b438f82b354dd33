"""A port mapping as the runtime hands it over, and what the plugin's configuration says about all of them.

The node's own ::1 has no published ports. A connection from there could be sent to the pod, but the answer would be for
::1 once it is translated back, and the kernel drops that where it arrives on a bridge (with br_netfilter, ip6_rcv_core)
or has no route for it. So it is refused at once, like any port that nobody serves, and a program that tries `localhost`
goes on to 127.0.0.1, instead of waiting for an answer that cannot come.
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.firewall import IPTABLES, NFTABLES
from cni.lib.gojson import Fields, lookup
from cni.lib.ip import AF_INET, AF_INET6, IPNet, format_ip, parse_ip
from cni.lib.skel import Attachment, Call

DEFAULT_MARK_BIT = 13
MAX_PORT = 65535
LOCALHOST_V6 = "::1"
NFT_TABLE = "cni_hostport"
HOST_CHAIN = "hostports"  # with this chain the nftables backend has been at work


class Mapping:
    """Traffic to `host_port`, at any address of the host or at `host_ip`, goes to the pod's `container_port`."""

    __slots__ = ("container_port", "host_ip", "host_port", "protocol")

    def __init__(self, host_port: int, container_port: int, protocol: str, host_ip: bytes | None = None) -> None:
        self.host_port = host_port
        self.container_port = container_port
        self.protocol = protocol
        self.host_ip = host_ip

    @classmethod
    def read(cls, fields: Fields) -> Mapping:
        """One of runtimeConfig.portMappings. Raises CniError."""
        host_port, container_port = fields.number("hostPort"), fields.number("containerPort")
        for port, side in ((container_port, "container"), (host_port, "host")):
            if not 0 < port <= MAX_PORT:
                raise CniError(f"Invalid {side} port number: {port}")
        protocol = fields.text("protocol").lower()
        if not (protocol.isascii() and protocol.isalnum()):
            raise CniError(f'Invalid protocol: "{protocol}"')
        return cls(host_port, container_port, protocol, _read_host_ip(fields.text("hostIP")))

    def fits(self, pod: IPNet) -> bool:
        """Whether the mapping is for the family of this address of the pod."""
        return self.host_ip is None or len(self.host_ip) == len(pod.ip)

    @property
    def destination(self) -> str:
        """The host's address as text; empty when every address is meant, as 0.0.0.0 and :: do."""
        return format_ip(self.host_ip) if self.host_ip and any(self.host_ip) else ""

    def target(self, pod: IPNet) -> str:
        """Where to: 10.1.2.3:80 or [fd00::3]:80."""
        address = format_ip(pod.ip)
        return f"{address if len(pod.ip) == 4 else f'[{address}]'}:{self.container_port}"


def _read_host_ip(text: str) -> bytes | None:
    if not text:
        return None
    address = parse_ip(text)
    if address is None:
        raise CniError(f"Invalid host IP address: {text}")
    if address == parse_ip(LOCALHOST_V6):
        raise CniError("a port cannot be published at ::1, where answers do not arrive: use 127.0.0.1 or no hostIP")
    return address


class Settings:
    """The plugin's configuration for one attachment."""

    def __init__(self, call: Call) -> None:
        """Read the configuration. Raises CniError, JsonTypeError."""
        fields = call.fields("PortMapConf")
        self.network = call.name
        self.attachment = Attachment(call.container_id, call.ifname)
        self.snat = fields.flag("snat", True)
        self.masq_all = fields.flag("masqAll")
        self.external_chain = fields.text("externalSetMarkChain")
        self.conditions = {AF_INET: fields.texts("conditionsV4"), AF_INET6: fields.texts("conditionsV6")}
        self.mark_bit = fields.number("markMasqBit", DEFAULT_MARK_BIT)
        self.mappings = read_mappings(call)
        if lookup(call.conf, "markMasqBit") is not None and lookup(call.conf, "externalSetMarkChain") is not None:
            raise CniError("Cannot specify externalSetMarkChain and markMasqBit")
        if not 0 <= self.mark_bit <= 31:
            raise CniError("MasqMarkBit must be between 0 and 31")
        self.backend = fields.text("backend")
        if self.backend not in ("", IPTABLES, NFTABLES):
            raise CniError(f'unrecognized backend "{self.backend}"')
        if self.backend:
            self.check_backend(self.backend)

    @property
    def udp_ports(self) -> set[int]:
        """The host's UDP ports that are mapped."""
        return {mapping.host_port for mapping in self.mappings if mapping.protocol == "udp"}

    def check_backend(self, backend: str) -> None:
        """Refuse settings that belong to the other backend. Raises CniError."""
        wrong = NFTABLES if backend == IPTABLES else IPTABLES
        options = ["externalSetMarkChain"] if self.external_chain and wrong == IPTABLES else []
        for name, words in (("conditionsV4", self.conditions[AF_INET]), ("conditionsV6", self.conditions[AF_INET6])):
            if words and words[0] and (IPTABLES if words[0][0] in "-!" else NFTABLES) == wrong:
                options.append(name)
        if options:
            problem = f"configuration contains {wrong}-specific options [{' '.join(options)}]"
            raise CniError(f"{backend} backend was requested but {problem}")


def read_mappings(call: Call) -> list[Mapping]:
    """runtimeConfig.portMappings. Raises CniError, JsonTypeError."""
    runtime_config = call.fields("PortMapConf").child(
        "runtimeConfig", ""
    )  # an anonymous struct in Go, as messages show
    if runtime_config is None:
        return []
    return [Mapping.read(item) for item in runtime_config.children("portMappings", "PortMapEntry", "main.PortMapEntry")]
