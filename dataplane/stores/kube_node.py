"""A Kubernetes node object as a lease: which annotations flannel puts there, and what they say. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from dataplane.addresses import OneFamily
from dataplane.errors import ConfigError
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig

_PREFIX = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?", re.ASCII)


def complete_prefix(prefix: str) -> str:
    """flannel's rule for `--kube-annotation-prefix`: a `/` is added to a bare domain, else a `-` to a bare word."""
    if "/" not in prefix:
        prefix += "/"
    elif not prefix.endswith(("/", "-")):
        prefix += "-"
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"--kube-annotation-prefix {prefix!r} must be DOMAIN or DOMAIN/WORD, in lower case")
    return prefix


class NodeReader:
    """Reads and writes nodes for one annotation prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = complete_prefix(prefix)

    def lease(self, node: Mapping[str, Any], config: NetworkConfig) -> Lease | None:
        """The lease of `node`; None if no daemon has published one there. ConfigError if what is there is wrong."""
        annotations = annotations_of(node)
        if annotations.get(self._prefix + "kube-subnet-manager") != "true":
            return None
        attrs = LeaseAttrs(
            public_ip=self._address(annotations, "public-ip", IPv4Address),
            public_ipv6=self._address(annotations, "public-ipv6", IPv6Address),
            backend_type=annotations.get(self._prefix + "backend-type", ""),
            backend_data=self._data(annotations, "backend-data"),
            backend_v6_data=self._data(annotations, "backend-v6-data"),
        )
        if not attrs.addresses:
            raise ConfigError(f"it has no annotation {self._prefix}public-ip")
        return Lease(pod_subnets(node, config), attrs, node=name_of(node), since=_made_at(node))

    def published(self, node: Mapping[str, Any], attrs: LeaseAttrs) -> LeaseAttrs:
        """`attrs` with the public addresses that an operator's annotations on `node` impose."""
        annotations = annotations_of(node)
        ipv4 = self._imposed(annotations, "public-ip", IPv4Address)
        ipv6 = self._imposed(annotations, "public-ipv6", IPv6Address)
        return replace(attrs, public_ip=ipv4 or attrs.public_ip, public_ipv6=ipv6 or attrs.public_ipv6)

    def annotations(self, attrs: LeaseAttrs) -> dict[str, str]:
        """What a node with these `attrs` publishes."""
        named = {"kube-subnet-manager": "true", "backend-type": attrs.backend_type}
        if attrs.public_ip is not None:
            named |= {"backend-data": attrs.backend_data or "null", "public-ip": str(attrs.public_ip)}
        if attrs.public_ipv6 is not None:
            named |= {"backend-v6-data": attrs.backend_v6_data or "null", "public-ipv6": str(attrs.public_ipv6)}
        return {self._prefix + name: value for name, value in named.items()}

    def _imposed(self, annotations: Mapping[str, str], name: str, kind: type[OneFamily]) -> OneFamily | None:
        overwrite = self._address(annotations, f"{name}-overwrite", kind)
        return overwrite or self._address(annotations, f"node-{name}", kind)

    def _address(self, annotations: Mapping[str, str], name: str, kind: type[OneFamily]) -> OneFamily | None:
        text = annotations.get(self._prefix + name, "")
        try:
            address = kind(text) if text else kind(0)
        except ValueError as error:
            raise ConfigError(f"its annotation {self._prefix}{name} is wrong: {error}") from error
        return None if address == kind(0) else address

    def _data(self, annotations: Mapping[str, str], name: str) -> str | None:
        text = annotations.get(self._prefix + name, "null")
        return None if text in ("", "null") else text


def name_of(node: Mapping[str, Any]) -> str:
    """The node's name; empty if the object has none."""
    return str(_member(node, "metadata").get("name", ""))


def version_of(node: Mapping[str, Any]) -> str:
    """The resource version of the object."""
    return str(_member(node, "metadata").get("resourceVersion", ""))


def annotations_of(node: Mapping[str, Any]) -> dict[str, str]:
    """All annotations that are text."""
    source = _member(_member(node, "metadata"), "annotations")
    return {key: value for key, value in source.items() if isinstance(value, str)}


def pod_subnets(node: Mapping[str, Any], config: NetworkConfig) -> Subnets:
    """The node's podCIDRs of the families that `config` enables; ConfigError if there are none."""
    spec = _member(node, "spec")
    texts = spec.get("podCIDRs") or [text for text in [spec.get("podCIDR")] if text]
    if not texts:
        raise ConfigError("no podCIDR is assigned to it; run the controller manager with --allocate-node-cidrs=true")
    try:
        networks = [ip_network(str(text), strict=False) for text in texts]
        wanted = {4: config.ipv4, 6: config.ipv6}
        subnets = Subnets.of(network for network in networks if wanted[network.version] is not None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"its podCIDRs {texts} are not one of each enabled family: {error}") from error
    return subnets


def _made_at(node: Mapping[str, Any]) -> int:
    """When the object was made, in unix seconds; 0 if it does not tell."""
    try:
        return int(datetime.fromisoformat(str(_member(node, "metadata").get("creationTimestamp", ""))).timestamp())
    except ValueError:
        return 0


def _member(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = source.get(key)
    return value if isinstance(value, dict) else {}
