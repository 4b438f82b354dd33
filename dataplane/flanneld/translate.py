"""What flannel's flags mean in the node's terms: from `FlanneldOptions` to store, `StoreOptions` and `NodeOptions`.

What flannel has no flag for (engine, workers, run directory ...) is read from the node's own UDPLANE_* variables, so
that an operator can set it without another command line. The TUN is called flannel0 and the log has klog's form unless
they say otherwise.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from dataplane.addresses import OneFamily
from dataplane.errors import ConfigError
from dataplane.flags import add_flags, read_flags
from dataplane.flanneld.goflags import flags_of
from dataplane.flanneld.options import FlanneldOptions
from dataplane.options import NodeOptions
from dataplane.stores.base import StoreOptions

WITHOUT_EFFECT = ("ip_blackhole_route", "v", "vmodule", "log_backtrace_at")
VARIABLES_WITHOUT_EFFECT = ("EVENT_QUEUE_DEPTH", "CONT_WHEN_CACHE_NOT_READY")
DEFAULTS = {"UDPLANE_TUN": "flannel0", "UDPLANE_LOG_FORMAT": "klog"}
RENEW_MARGINS = range(1, 24 * 60)

_STORE_FIELDS = (
    "etcd_prefix",
    "etcd_username",
    "etcd_password",
    "kubeconfig_file",
    "kube_annotation_prefix",
    "net_config_path",
    "set_node_network_unavailable",
)
_TLS_FIELDS = ("etcd_cafile", "etcd_certfile", "etcd_keyfile")
_NODE_FIELDS = (
    "subnet_lease_renew_margin",
    "ip_masq",
    "ip_masq_fully_random_disable",
    "iptables_forward_rules",
)


def without_effect(flannel: FlanneldOptions, environment: Mapping[str, str]) -> list[str]:
    """The flags and variables that are given and mean nothing here."""
    defaults = FlanneldOptions()
    flags = {option.name: f"-{name}" for name, option in flags_of(FlanneldOptions).items()}
    given = [flags[name] for name in WITHOUT_EFFECT if getattr(flannel, name) != getattr(defaults, name)]
    return given + [name for name in VARIABLES_WITHOUT_EFFECT if name in environment]


def store_url(flannel: FlanneldOptions) -> str:
    """The store that the flags name. ConfigError if the etcd endpoints cannot be one store."""
    if flannel.kube_subnet_mgr:
        return f"kube:{flannel.kube_api_url}"
    return ("etcds://" if _uses_tls(flannel) else "etcd://") + ",".join(
        _host(endpoint) for endpoint in flannel.etcd_endpoints.split(",")
    )


def store_options(flannel: FlanneldOptions) -> StoreOptions:
    """How to talk to that store. TLS files mean nothing to endpoints without TLS, for flannel as well."""
    names = _STORE_FIELDS + (_TLS_FIELDS if not flannel.kube_subnet_mgr and _uses_tls(flannel) else ())
    return StoreOptions(**{name: getattr(flannel, name) for name in names})


def node_options(flannel: FlanneldOptions, environment: Mapping[str, str]) -> NodeOptions:
    """How to run the node, apart from what depends on the network config (see `command`).

    The node itself answers no health check; `command` does, in flannel's words.
    """
    if flannel.subnet_lease_renew_margin not in RENEW_MARGINS:
        raise ConfigError("Invalid subnet-lease-renew-margin option, out of acceptable range 1 to 1439")
    return replace(
        _own_options(environment),
        store=store_url(flannel),
        subnet_file=Path(flannel.subnet_file),
        iptables_resync=max(1, flannel.iptables_resync),
        net_config_path="",
        healthz_port=0,
        **{name: getattr(flannel, name) for name in _NODE_FIELDS},
    )


def public_address(flannel: FlanneldOptions, version: int) -> IPv4Address | IPv6Address | None:
    """The public address of one family, if it is given. ConfigError if it is none."""
    if version == 4:
        return _address("public-ip", flannel.public_ip, IPv4Address)
    return _address("public-ipv6", flannel.public_ipv6, IPv6Address)


def health_address(flannel: FlanneldOptions) -> tuple[IPv4Address | IPv6Address, int] | None:
    """Where health checks are answered; None for nowhere."""
    port = flannel.healthz_port
    if port <= 0:
        return None
    if port > 65535:
        raise ConfigError(f"--healthz-port {port} is no TCP port; give 1 to 65535, or 0 for no health checks")
    try:
        return ip_address(flannel.healthz_ip or "0.0.0.0"), port
    except ValueError as error:
        raise ConfigError(f"--healthz-ip: {error}; give an address of this host, or 0.0.0.0 for all") from error


def _own_options(environment: Mapping[str, str]) -> NodeOptions:
    """The node's options as UDPLANE_* variables and this package's defaults say."""
    parser = argparse.ArgumentParser()
    add_flags(parser, NodeOptions)
    variables = {name: text for name, text in environment.items() if name.startswith("UDPLANE_")}
    return read_flags(parser.parse_args([]), DEFAULTS | variables, NodeOptions)


def _uses_tls(flannel: FlanneldOptions) -> bool:
    """Whether etcd is reached with TLS: by the scheme, and where there is none by TLS files, as etcd's client does."""
    endpoints = flannel.etcd_endpoints.split(",")
    schemes = {endpoint.partition("://")[0].strip() for endpoint in endpoints if "://" in endpoint}
    if not schemes <= {"http", "https"} or len(schemes) > 1:
        raise ConfigError(f"--etcd-endpoints {flannel.etcd_endpoints!r}: give all with http:// or all with https://")
    return "https" in schemes or (not schemes and any(getattr(flannel, name) for name in _TLS_FIELDS))


def _host(endpoint: str) -> str:
    """HOST:PORT of an endpoint such as http://HOST:PORT/."""
    return endpoint.strip().rpartition("://")[2].rstrip("/")


def _address(name: str, text: str, kind: type[OneFamily]) -> OneFamily | None:
    try:
        return kind(text) if text else None
    except ValueError as error:
        raise ConfigError(f"--{name}: {error}; give the address at which other nodes reach this one") from error
