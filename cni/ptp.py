"""ptp: a veth pair between the pod and the node, with nothing but routing behind it.

The pod gets its address with the subnet's prefix length, yet the subnet is not on its link: all of it, but for the
gateway, is reached through the gateway, whose address sits on the node's end of the pair.

    pod    10.1.2.3/24 on eth0          10.1.2.1 dev eth0, 10.1.2.0/24 via 10.1.2.1, then the IPAM plugin's routes
    node   10.1.2.1/32 on the veth      10.1.2.3 dev veth

ADD makes the pair first, so that an ADD for an interface that is there already touches nothing else; then it reserves
the addresses and begins to make the masquerade rules, and while they are being made configures both ends. Whatever
fails, what was done before is undone. DEL needs network, container id and interface name alone.
"""

from __future__ import annotations

from cni.lib import addresses, ipam, links, sysctl, verify, veth
from cni.lib.addresses import KernelRoute
from cni.lib.errors import CniError
from cni.lib.forwarding import enable_forwarding
from cni.lib.gojson import JsonTypeError
from cni.lib.ip import IPNet, family
from cni.lib.netlink import NetlinkError, NetlinkSocket
from cni.lib.netns import Netns, NetnsLock, open_netns
from cni.lib.rollback import Attempts, Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import Interface, IPConfig, Result, read_net_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.lib.masquerade import Masquerade

POD_INTERFACE = 1  # index in the result: 0 the node's end, 1 the pod's


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.masquerade = fields.flag("ipMasq")
            self.masquerade_backend = fields.text("ipMasqBackend")
            self.mtu = fields.number("mtu")
            self.dns = read_net_conf(fields)
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def rules(self, call: Call) -> Masquerade | None:
        """The pod's masquerade rules, None where it has none; most calls need not import them."""
        if not self.masquerade:
            return None
        from cni.lib.masquerade import Masquerade

        return Masquerade(call.name, Attachment(call.container_id, call.ifname), self.masquerade_backend)


def add(call: Call) -> Result:
    """Connect the pod."""
    config = Config(call)
    _require_ipam(call)
    with NetlinkSocket() as host, Rollback() as rollback:
        netns = open_netns(call.netns)
        with NetnsLock():
            pair = veth.make_pair(host, netns, call, config.mtu)
        rollback.push(lambda: links.delete_link(host, pair.host_name))
        result = ipam.add(call)
        rollback.push(lambda: ipam.delete(call))
        _check_gateways(result)
        rules = config.rules(call)
        started = []
        if rules:
            rollback.push(rules.remove)
            started = rules.start([ip.address for ip in result.ips])
        try:
            _configure(host, netns, pair, call, result)
        finally:
            if rules:
                rules.finish(started)
        if config.dns.given:
            result.dns = config.dns
        rollback.pop_all()
    return result


def _require_ipam(call: Call) -> None:
    if not ipam.ipam_type(call):
        raise CniError("no plugin name provided")


def _check_gateways(result: Result) -> None:
    """Without a gateway there is no other end to route to."""
    for ip in result.ips:
        if ip.gateway is None:
            raise CniError(f"the IPAM plugin gave no gateway for {ip.address}, which ptp cannot do without")


def _configure(host: NetlinkSocket, netns: Netns, pair: veth.VethPair, call: Call, result: Result) -> None:
    """Let the node route, and give both ends of the pair what they need."""
    for of_family in {family(ip.address.ip): None for ip in result.ips}:
        enable_forwarding(of_family)
    result.interfaces = [
        Interface(pair.host_name, links.format_mac(pair.host_mac)),
        Interface(call.ifname, links.format_mac(pair.mac), call.netns),
    ]
    for ip in result.ips:
        ip.interface = POD_INTERFACE
    sysctl.try_write(f"net/ipv6/conf/{pair.host_name}/accept_ra", "0")
    ipam.configure_interface(netns, call.ifname, result)
    _route_by_gateway(netns, call.ifname, result.ips)
    _configure_node(host, pair.host_name, result.ips)


def _route_by_gateway(netns: Netns, ifname: str, ips: list[IPConfig]) -> None:
    """In the pod: take the subnet off the link and put the gateway on it."""
    with netns.netlink() as inside:
        index = links.get_link(inside, ifname).index
        for ip in ips:
            assert ip.gateway is not None
            subnet, source = ip.address.network, ip.address.ip
            gateway = KernelRoute(host_net(ip.gateway), index, None, source, addresses.RT_SCOPE_LINK)
            try:
                addresses.delete_route(inside, KernelRoute(subnet, index, scope=addresses.RT_SCOPE_NOWHERE))
                addresses.add_route(inside, gateway)
                addresses.add_route(inside, KernelRoute(subnet, index, ip.gateway, source))
            except NetlinkError as error:
                raise CniError(f"failed to route {subnet} by its gateway in the pod: {error}") from error


def _configure_node(host: NetlinkSocket, name: str, ips: list[IPConfig]) -> None:
    """On the node: the gateway's address on its end, and a route to the pod, whoever had the address before."""
    index = links.get_link(host, name).index
    for ip in ips:
        assert ip.gateway is not None
        try:
            addresses.add_address(host, index, host_net(ip.gateway))
        except NetlinkError as error:
            raise CniError(f"failed to add IP addr ({host_net(ip.gateway)}) to veth: {error}") from error
        try:
            route = KernelRoute(host_net(ip.address.ip), index, scope=addresses.RT_SCOPE_HOST)
            addresses.replace_route(host, route)
        except NetlinkError as error:
            raise CniError(f"failed to add route on host: {error}") from error


def host_net(ip: bytes) -> IPNet:
    """The prefix that holds this one address."""
    return IPNet(ip, len(ip) * 8)


def delete(call: Call) -> None:
    """Disconnect the pod: every step is tried, the first failure is reported.

    Nothing of the configuration counts but the IPAM plugin: the rest may have changed since the ADD.
    """
    from cni.lib import masquerade

    rules = masquerade.removal_of(call)
    with Attempts() as attempts, NetlinkSocket() as host:
        attempts.run(rules.start)
        attempts.run(lambda: ipam.forward(call))
        attempts.run(lambda: veth.delete_pair(host, call))
        attempts.run(rules.finish)


def check(call: Call) -> None:
    """The pod's end, its addresses and its routes have to be as the ADD's result says."""
    Config(call)
    _require_ipam(call)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = call.prev_result()
    if previous is None:
        raise CniError("ptp: Required prevResult missing")
    with netns.netlink() as inside:
        _check_interface(inside, verify.pod_interface(call, previous))
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def _check_interface(inside: NetlinkSocket, wanted: Interface) -> None:
    link = links.find_link(inside, wanted.name)
    if link is None:
        raise CniError(f"ptp: Container Interface name in prevResult: {wanted.name} not found")
    if link.kind != "veth":
        raise CniError(f"Error: Container interface {link.name} not of type veth/p2p")
    if wanted.mac and wanted.mac != link.mac:
        raise CniError(f"ptp: Interface {wanted.name} Mac {wanted.mac} doesn't match container Mac: {link.mac}")


def gc(call: Call) -> None:
    """Remove the veths, rules and reservations of this network's pods that are gone."""
    valid = call.valid_attachments()
    if valid is None:
        return
    from cni.lib import masquerade

    with Attempts() as attempts:
        attempts.run(lambda: veth.collect_garbage(call.name, valid))
        attempts.run(lambda: masquerade.collect_garbage(call.name, valid))
        attempts.run(lambda: ipam.forward(call))


def status(call: Call) -> None:
    """Ready when the IPAM plugin is."""
    Config(call)
    _require_ipam(call)
    ipam.forward(call)


PLUGIN = Plugin("ptp", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
