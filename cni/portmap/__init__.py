"""portmap: publishes ports of a pod on the host.

A chained plugin: the pod's addresses come from the plugins before it, the mappings from the runtime
(runtimeConfig.portMappings). The rules are made by iptables (cni.portmap.iptables) or nftables
(cni.portmap.nftables). Without mappings no program is run for any verb.

A mapping reserves nothing: a host port that is mapped twice goes to the pod that came last.
"""

from __future__ import annotations

from cni.lib import firewall
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError, describe
from cni.lib.firewall import IPTABLES, NFTABLES, FirewallError
from cni.lib.gojson import JsonTypeError
from cni.lib.ip import AF_INET, AF_INET6, IPNet
from cni.lib.netlink import NetlinkError, NetlinkSocket
from cni.lib.nftables import chain_exists
from cni.lib.process import find_program
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin
from cni.lib.types import Result
from cni.portmap import iptables
from cni.portmap.mapping import HOST_CHAIN, NFT_TABLE, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.portmap.iptables import IptablesRules
    from cni.portmap.nftables import NftablesRules


def add(call: Call) -> Result:
    """Make the rules; the result is that of the plugins before."""
    try:
        settings = _read_settings(call)
        previous = _previous(call)
    except CniError as error:
        raise error.wrap("failed to parse config") from None
    if previous is None:
        raise CniError("must be called as chained plugin")
    pods = pod_addresses(previous, call.ifname)
    if settings.mappings and pods:
        with Rollback() as rollback:
            rollback.push(lambda: _remove(settings))
            _add_rules(settings, pods)
            if settings.snat:
                _route_localnet(pods)
            rollback.pop_all()
        _forget_connections(settings.udp_ports)
    return previous


def check(call: Call) -> None:
    """The rules have to be there."""
    settings = _read_settings(call)
    previous = _previous(call)
    if previous is None:
        raise CniError("Required prevResult missing")
    pods = pod_addresses(previous, call.ifname)
    if settings.mappings and pods:
        _rules(settings).check(pods)


def delete(call: Call) -> None:
    """Remove the rules, and the memory of UDP flows that they made."""
    _forget_connections(_remove(_read_leniently(call)))


def gc(call: Call) -> None:
    """Remove the rules of this network's pods that are gone."""
    valid = call.valid_attachments()
    if valid is not None:
        from cni.portmap import nftables

        ports = iptables.collect_garbage(call.name, valid) | nftables.collect_garbage(call.name, valid)
        _forget_connections(ports)


def status(call: Call) -> None:
    """Ready when there is a firewall program to run."""
    _read_settings(call)
    if not any(find_program(name) for name in ("iptables-restore", "nft")):
        raise CniError("neither iptables nor nft is installed", PLUGIN_NOT_AVAILABLE)


def _read_settings(call: Call) -> Settings:
    try:
        return Settings(call)
    except JsonTypeError as failure:
        raise CniError(f"failed to parse network configuration: {failure}") from None


def _previous(call: Call) -> Result | None:
    return call.prev_result("PortMapConf", "failed to parse network configuration: ", "could not parse prevResult: ")


def _read_leniently(call: Call) -> Settings:
    """For DEL: settings that nobody can have made rules of are no reason to keep a pod from going."""
    try:
        return Settings(call)
    except (CniError, JsonTypeError):
        return Settings(call.for_delegate(call.command, {}))


def pod_addresses(result: Result, ifname: str) -> list[IPNet]:
    """The first address of each family that the result gives to the pod's interface."""
    found: dict[int, IPNet] = {}
    for ip in result.ips:
        index = -1 if ip.interface is None else ip.interface
        if 0 <= index < len(result.interfaces):
            interface = result.interfaces[index]
            if interface.name != ifname or not interface.sandbox:
                continue
        found.setdefault(len(ip.address.ip), ip.address)
    return [found[length] for length in (4, 16) if length in found]


def _rules(settings: Settings) -> IptablesRules | NftablesRules:
    backend = settings.backend or firewall.default_backend()
    settings.check_backend(backend)
    return iptables.IptablesRules(settings) if backend == IPTABLES else _nftables_rules(settings)


def _nftables_rules(settings: Settings) -> NftablesRules:
    from cni.portmap.nftables import NftablesRules

    return NftablesRules(settings)


def _add_rules(settings: Settings, pods: list[IPNet]) -> None:
    """Make the rules; by nftables where the nat table has rules that iptables cannot read, unless told otherwise."""
    try:
        _rules(settings).add(pods)
    except FirewallError as error:
        if settings.backend or not error.incompatible:
            raise
        settings.check_backend(NFTABLES)
        _nftables_rules(settings).add(pods)


def _remove(settings: Settings) -> set[int]:
    """Remove the rules wherever they are; gives the UDP ports that were mapped."""
    ports = iptables.IptablesRules(settings).remove()
    if any(chain_exists(of_family, NFT_TABLE, HOST_CHAIN) for of_family in (AF_INET, AF_INET6)):
        ports |= _nftables_rules(settings).remove()
    return ports


def _route_localnet(pods: list[IPNet]) -> None:
    """Let connections from 127.0.0.1 to a mapped port leave by the interface that leads to the pod."""
    from cni.lib import links, sysctl
    from cni.lib.addresses import find_route

    for pod in pods:
        if len(pod.ip) != 4:
            continue
        with NetlinkSocket() as netlink:
            route = find_route(netlink, pod.ip)
            link = route and links.find_link(netlink, index=route.index)
        if link:
            try:
                sysctl.write(f"net/ipv4/conf/{link.name}/route_localnet", "1")
            except OSError as error:
                raise CniError(f"unable to enable route_localnet: {describe(error)}") from error


def _forget_connections(udp_ports: set[int]) -> None:
    if not udp_ports:
        return
    from cni.lib import conntrack
    from cni.lib.log import warn

    for of_family in (AF_INET, AF_INET6):
        try:
            conntrack.forget_udp(of_family, udp_ports)
        except NetlinkError as error:
            warn(f"failed to delete stale UDP conntrack entries: {error}")


PLUGIN = Plugin("portmap", add=add, delete=delete, check=check, gc=gc, status=status)
