"""static and dhcp: addresses that a netconf or a server names."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cni.differential.scenario import Case, Conf, Shell, add, check, delete, life, netconf

ADDRESS = {"address": "10.9.0.5/24", "gateway": "10.9.0.1"}
VIA_OTHER = {"dst": "10.0.0.0/8", "gw": "10.9.0.2"}

# name -> ipam section of static, keys beside it, CNI_ARGS.
STATIC: dict[str, tuple[Conf, Conf, str | None]] = {
    "one": ({"addresses": [ADDRESS]}, {}, None),
    "without-gateway": ({"addresses": [{"address": "10.9.0.5/24"}]}, {}, None),
    "two": ({"addresses": [ADDRESS, {"address": "fd09::5/64", "gateway": "fd09::1"}]}, {}, None),
    "same-family": ({"addresses": [ADDRESS, {"address": "10.8.0.5/24"}]}, {}, None),
    "routes": ({"addresses": [ADDRESS], "routes": [{"dst": "0.0.0.0/0"}, VIA_OTHER]}, {}, None),
    "dns": ({"addresses": [ADDRESS], "dns": {"nameservers": ["1.2.3.4"], "search": ["example"]}}, {}, None),
    "empty": ({}, {}, None),
    "no-prefix": ({"addresses": [{"address": "10.9.0.5"}]}, {}, None),
    "address-missing": ({"addresses": [{"gateway": "10.9.0.1"}]}, {}, None),
    "address-number": ({"addresses": [{"address": 5}]}, {}, None),
    "gateway-text": ({"addresses": [{"address": "10.9.0.5/24", "gateway": "x"}]}, {}, None),
    "addresses-object": ({"addresses": {"address": "10.9.0.5/24"}}, {}, None),
    "argument": ({}, {}, "IP=10.9.0.6/24"),
    "argument-gateway": ({}, {}, "IP=10.9.0.6/24;GATEWAY=10.9.0.1"),
    "argument-two": ({}, {}, "IP=10.9.0.6/24,fd09::6/64;GATEWAY=10.9.0.1,fd09::1"),
    "argument-added": ({"addresses": [ADDRESS]}, {}, "IP=10.9.0.6/24"),
    "argument-no-prefix": ({}, {}, "IP=10.9.0.6"),
    "argument-gateway-text": ({}, {}, "IP=10.9.0.6/24;GATEWAY=x"),
    "runtime": ({"addresses": [ADDRESS]}, {"runtimeConfig": {"ips": ["10.9.0.7/24"]}}, None),
    "runtime-no-prefix": ({}, {"runtimeConfig": {"ips": ["10.9.0.7"]}}, None),
    "args-cni": ({"addresses": [ADDRESS]}, {"args": {"cni": {"ips": ["10.9.0.8/24"]}}}, None),
    "runtime-and-argument": ({}, {"runtimeConfig": {"ips": ["10.9.0.7/24"]}}, "IP=10.9.0.6/24"),
}


def cases() -> Iterator[Case]:
    """All cases of static and dhcp."""
    for name, (ipam, keys, args) in STATIC.items():
        conf = netconf("any", ipam={"type": "static", **ipam}, **keys)
        yield Case(f"static-{name}", *life("static", conf, CNI_ARGS=args))
    one = netconf("any", ipam={"type": "static", "addresses": [ADDRESS]})
    other = netconf("any", ipam={"type": "static", "addresses": [{"address": "10.9.0.99/24"}]})
    yield Case("static-check-other-address", add("static", one), check("static", other))
    yield Case("static-no-ipam-section", *life("static", netconf("any")))
    yield Case("static-old-two-addresses", *life("static", netconf("any", "0.2.0", ipam={
        "type": "static", "addresses": [ADDRESS, {"address": "10.8.0.5/24"}]})))  # fmt: skip
    dhcp = netconf("any", ipam={"type": "dhcp"})
    yield Case("dhcp-no-daemon", add("dhcp", dhcp), check("dhcp", dhcp), delete("dhcp", dhcp))
    yield Case("dhcp-socket-path", *life("dhcp", netconf("any", ipam={
        "type": "dhcp", "daemonSocketPath": "/run/no/such.sock"})))  # fmt: skip
    yield Case("dhcp-stale-socket", Shell("mkdir -p /run/cni; touch /run/cni/dhcp.sock"), *life("dhcp", dhcp))
