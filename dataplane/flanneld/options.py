"""flannel's flags, all of its release 0.28 (flannel main.go, where the flags are defined), with flannel's defaults."""

import re
from dataclasses import dataclass

from dataplane.flanneld.goflags import BOOL, INT, STRING, STRINGS, Kind, flag


def _verbosity(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    number = int(text) if len(text) < 12 else 1 << 31
    if not -(1 << 31) <= number < 1 << 31:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def _modules(text: str) -> str:
    if not re.fullmatch(r"(|[^=,]+=[0-9]+(,[^=,]+=[0-9]+)*)", text, re.ASCII):
        raise ValueError("syntax error: expect comma-separated list of filename=N")
    return text


def _location(text: str) -> str:
    if not re.fullmatch(r"(|[^:]*\.[^:]*:[0-9]+)", text, re.ASCII):
        raise ValueError("syntax error: expect file.go:234")
    return text


_VERBOSITY, _MODULES, _LOCATION = (Kind("value", read) for read in (_verbosity, _modules, _location))


@dataclass(frozen=True, slots=True)
class FlanneldOptions:
    """What flanneld can be told."""

    etcd_endpoints: str = flag(
        STRING, "http://127.0.0.1:4001,http://127.0.0.1:2379", "where etcd is, with commas between endpoints"
    )
    etcd_prefix: str = flag(STRING, "/coreos.com/network", "etcd keys begin with this")
    etcd_keyfile: str = flag(STRING, "", "key of the client certificate for etcd")
    etcd_certfile: str = flag(STRING, "", "client certificate for etcd")
    etcd_cafile: str = flag(STRING, "", "certificate authority of etcd's servers")
    etcd_username: str = flag(STRING, "", "etcd user")
    etcd_password: str = flag(STRING, "", "etcd user's password; better in FLANNELD_ETCD_PASSWORD")
    iface: tuple[str, ...] = flag(STRINGS, (), "external interface, by name or address; the first given that fits")
    iface_regex: tuple[str, ...] = flag(
        STRINGS, (), "external interface by a pattern for its address or name; after -iface, the first that fits"
    )
    iface_can_reach: str = flag(STRING, "", "external interface by the route to this address; after -iface-regex")
    subnet_file: str = flag(STRING, "/run/flannel/subnet.env", "where CNI plugins read this node's subnet")
    public_ip: str = flag(STRING, "", "IPv4 address at which other nodes reach this one")
    public_ipv6: str = flag(STRING, "", "IPv6 address at which other nodes reach this one")
    subnet_lease_renew_margin: int = flag(INT, 60, "renew the lease so many minutes before it expires, 1 to 1439")
    ip_masq: bool = flag(BOOL, False, "masquerade traffic that leaves the pod network")
    ip_masq_fully_random_disable: bool = flag(BOOL, False, "masquerade without fully random ports")
    kube_subnet_mgr: bool = flag(BOOL, False, "leases from the Kubernetes API instead of etcd")
    kube_api_url: str = flag(STRING, "", "address of the Kubernetes API; not needed in a pod")
    kube_annotation_prefix: str = flag(STRING, "flannel.alpha.coreos.com", "annotations of nodes begin with this")
    kubeconfig_file: str = flag(STRING, "", "kubeconfig file; not needed in a pod")
    version: bool = flag(BOOL, False, "print the version and exit")
    healthz_ip: str = flag(STRING, "0.0.0.0", "address of the health checks /healthz and /readyz")
    healthz_port: int = flag(INT, 0, "TCP port of the health checks, 0 for none")
    iptables_resync: int = flag(INT, 5, "look after the firewall rules every so many seconds")
    iptables_forward_rules: bool = flag(BOOL, True, "accept forwarded traffic of the pod network")
    ip_blackhole_route: bool = flag(BOOL, False, "no effect: packets to pods that do not exist are answered here")
    net_config_path: str = flag(STRING, "/etc/kube-flannel/net-conf.json", "network config, with -kube-subnet-mgr")
    set_node_network_unavailable: bool = flag(BOOL, True, "clear the node's NetworkUnavailable condition when ready")
    v: int = flag(_VERBOSITY, 0, "no effect: all that the node has to say is logged")
    vmodule: str = flag(_MODULES, "", "no effect")
    log_backtrace_at: str = flag(_LOCATION, "", "no effect")
