"""The plugins of this package by their official names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.lib.skel import Plugin

# The launcher that started this process, empty when it was started in another way.
launcher = ""

# Official name -> module of this package. A launcher is installed for each.
MODULES = {
    "bandwidth": "bandwidth",
    "bridge": "bridge",
    "dhcp": "dhcp",
    "dummy": "dummy",
    "firewall": "firewall",
    "flannel": "flannel",
    "host-device": "host_device",
    "host-local": "host_local",
    "ipvlan": "ipvlan",
    "loopback": "loopback",
    "macvlan": "macvlan",
    "portmap": "portmap",
    "ptp": "ptp",
    "sbr": "sbr",
    "static": "static",
    "tap": "tap",
    "tuning": "tuning",
    "vlan": "vlan",
    "vrf": "vrf",
}


def load_plugin(name: str) -> Plugin:
    """The plugin of that name. Raises KeyError if it is not one of ours."""
    module = __import__(f"cni.{MODULES[name]}", fromlist=["PLUGIN"])
    plugin: Plugin = module.PLUGIN
    return plugin
