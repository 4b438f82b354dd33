"""What the node can be told: the fields of `NodeOptions` are the flags of `udplane up` (see `flags`)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from dataplane.addresses import Address
from dataplane.engines.contract import OFFLOADS
from dataplane.engines.registry import ENGINES, engine_name
from dataplane.flags import about, boolean, bounded, one_of, path
from dataplane.kernel.firewall import CHOICES
from dataplane.logs import STYLES

DEFAULT_RUN_DIR = Path("/run/udplane")
DEFAULT_STORE = "sqlite:/var/lib/udplane/store.db"


def optional_address(text: str) -> Address | None:
    """An IPv4 or IPv6 address; an empty text is none."""
    address = ip_address(text) if text else None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} is an address of one link only; give one that other nodes can reach")
    return address


def offloads(text: str) -> frozenset[str]:
    """Names of offloads with commas between them; `all` is all of them."""
    names = frozenset(OFFLOADS) if text == "all" else frozenset(text.split(",")) - {""}
    if not names <= frozenset(OFFLOADS):
        raise ValueError(f"{text!r} is not all, or some of {', '.join(OFFLOADS)} with commas between them")
    return names


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What `udplane up` can be told."""

    store: str = field(
        default=DEFAULT_STORE,
        metadata=about("where leases live: sqlite:PATH, static:FILE, etcd://HOST:PORT or kube:", metavar="URL"),
    )
    node_name: str = field(
        default="", metadata=about("this node's name, for stores that know nodes by name", metavar="NAME")
    )
    net_config_path: str = field(
        default="",
        metadata=about("put this network config into the store if it has none", metavar="FILE", flannel=True),
    )
    iface: str = field(
        default="",
        metadata=about(
            "external interface, by name or address (default: the default route's)", metavar="IFACE", flannel=True
        ),
    )
    public_ip: Address | None = field(
        default=None,
        metadata=about(
            "address at which peers reach this node; IPv4 or IPv6, which makes the underlay (default: the interface's)",
            optional_address,
            metavar="ADDRESS",
            flannel=True,
        ),
    )
    subnet_file: Path = field(
        default=Path("/run/flannel/subnet.env"),
        metadata=about("where CNI plugins read this node's subnet", path, metavar="FILE", flannel=True),
    )
    subnet_lease_renew_margin: int = field(
        default=60,
        metadata=about(
            "renew the lease so many minutes before it expires", bounded(1, 1439), metavar="MINUTES", flannel=True
        ),
    )
    ip_masq: bool = field(
        default=False, metadata=about("masquerade traffic that leaves the pod network", boolean, flannel=True)
    )
    ip_masq_fully_random_disable: bool = field(
        default=False, metadata=about("masquerade without random ports", boolean, flannel=True)
    )
    iptables_forward_rules: bool = field(
        default=True, metadata=about("accept forwarded traffic of the pod network", boolean, flannel=True)
    )
    iptables_resync: int = field(
        default=5,
        metadata=about(
            "look after all that the node set up on the host every so many seconds",
            bounded(1, 86400),
            metavar="SECONDS",
            flannel=True,
        ),
    )
    firewall: str = field(
        default="auto",
        metadata=about(
            "who holds the rules: auto, nftables, iptables, or none to do without them (see docs/operate.md)",
            one_of(*CHOICES),
            metavar="WHICH",
        ),
    )
    engine: str = field(
        default="native",
        metadata=about(f"who moves the packets: {', '.join(ENGINES)}", engine_name, metavar="ENGINE"),
    )
    workers: int = field(
        default=1, metadata=about("threads that move packets (native engine)", bounded(1, 64), metavar="N")
    )
    no_offload: frozenset[str] = field(
        default=frozenset(),
        metadata=about(f"do without these offloads: all, or some of {','.join(OFFLOADS)}", offloads, metavar="LIST"),
    )
    busy_poll: int = field(
        default=0,
        metadata=about(
            "let an idle worker look for packets so long before it sleeps: latency for CPU (native engine)",
            bounded(0, 1_000_000),
            metavar="USEC",
        ),
    )
    batch: int = field(
        default=0,
        metadata=about(
            "packets that a worker takes at once at most; 0 for what is best", bounded(0, 1024), metavar="N"
        ),
    )
    tun: str = field(default="udplane0", metadata=about("name of the TUN device", metavar="NAME"))
    run_dir: Path = field(
        default=DEFAULT_RUN_DIR, metadata=about("where the control socket lies; one for each node", path, metavar="DIR")
    )
    no_carry_tos: bool = field(
        default=False, metadata=about("do not carry DSCP and ECN between inner and outer header", boolean)
    )
    accept_any_sender: bool = field(
        default=False,
        metadata=about(
            "take packets of a lease from any underlay address, for peers behind NAT; anybody who can "
            "reach the port can then send packets in a pod's name",
            boolean,
        ),
    )
    icmp_rate: int = field(
        default=1000, metadata=about("ICMP errors a second at most", bounded(0, 1_000_000), metavar="N")
    )
    healthz_ip: Address = field(
        default=IPv4Address("127.0.0.1"),
        metadata=about("address of the health check", ip_address, metavar="ADDRESS", flannel=True),
    )
    healthz_port: int = field(
        default=0,
        metadata=about(
            "answer GET /healthz at this TCP port; 0 for no", bounded(0, 65535), metavar="PORT", flannel=True
        ),
    )
    log_format: str = field(
        default="text", metadata=about(f"how to log: {', '.join(STYLES)}", one_of(*STYLES), metavar="FORMAT")
    )
