"""bridge: connects a pod to a bridge on the node by a veth pair.

ADD takes these steps; whatever fails, the steps before it are undone:

1. the bridge (cni0) is made, or brought in line with the configuration;
2. the veth pair is made, its host end up and a port of the bridge in the pod's VLANs, its other end inside the pod;
3. the IPAM plugin reserves addresses; without one the pod's interface just goes up (layer 2);
4. masquerade rules begin to be made, by a program that was started first and works while this one goes on;
5. the pod's interface gets its addresses and routes and goes up;
6. with isGateway, the bridge, or the node's interface in the pod's VLAN, gets the gateway's address and the node begins
   to route;
7. the rules have to stand, and the port has to pass traffic; then the pod announces its addresses.

DEL takes the veth, the reservations and the rules away. It needs network, container id and interface name alone:
the host end's name and the rules' chain follow from them.
"""

from __future__ import annotations

from cni.lib import ipam, links, sysctl, veth
from cni.lib.args import parse_args
from cni.lib.background import Background
from cni.lib.bridge_device import Bridge
from cni.lib.errors import CniError
from cni.lib.forwarding import enable_forwarding
from cni.lib.gojson import Fields, JsonTypeError, lookup
from cni.lib.ip import IPNet, default_net, family, from_number, number
from cni.lib.lean import prepare_setns
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import Netns, NetnsLock, open_netns
from cni.lib.rollback import Attempts, Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import Interface, IPConfig, Result, Route, read_net_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.lib.bridge_vlans import Vlans
    from cni.lib.masquerade import Masquerade
    from cni.lib.vlan_gateway import VlanGateway

DEFAULT_BRIDGE = "cni0"
POD_INTERFACE = 2  # index in the result: 0 the bridge, 1 the host's end, 2 the pod's
PORT_UP_SECONDS = 2.5
FIRST_POLL_SECONDS = 0.001
LONGEST_POLL_SECONDS = 0.05


class Config:
    """What the network configuration says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            self._read(call)
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def _read(self, call: Call) -> None:
        fields = call.fields()
        self.bridge = fields.text("bridge", DEFAULT_BRIDGE)
        self.default_gateway = fields.flag("isDefaultGateway")
        self.gateway = fields.flag("isGateway") or self.default_gateway
        self.force_address = fields.flag("forceAddress")
        self.masquerade = fields.flag("ipMasq")
        self.masquerade_backend = fields.text("ipMasqBackend")
        self.mtu = fields.number("mtu")
        self.hairpin = fields.flag("hairpinMode")
        self.promiscuous = fields.flag("promiscMode")
        self.isolated = fields.flag("portIsolation")
        self.detect_duplicates = fields.flag("enabledad")
        self.mac_spoof_check = fields.flag("macspoofchk")
        self.stays_down = fields.flag("disableContainerInterface")
        self.gso_max_size = fields.number("gsoMaxSize", go_type="uint32")
        self.dns = read_net_conf(fields)
        self.layer3 = bool(ipam.ipam_type(call))
        self.vlans = _read_vlans(fields)
        self.mac = parse_args(call, ("MAC",)).get("MAC", "")
        args = fields.child("args", "Args")
        section = args and args.child("cni", "BridgeArgs")
        for source in (section, fields.child("runtimeConfig", "RuntimeConfig")):
            self.mac = (source.text("mac") if source else "") or self.mac

    def check_for_add(self) -> None:
        """Refuse what cannot be done. DEL never does."""
        if self.hairpin and self.promiscuous:
            raise CniError("cannot set hairpin mode and promiscuous mode at the same time")
        if self.stays_down and self.layer3:
            raise CniError("cannot use IPAM when DisableContainerInterface flag is set")
        if self.mac and links.parse_mac(self.mac) is None:
            raise CniError(f"failed to make veth pair: address {self.mac}: invalid MAC address")


def _read_vlans(fields: Fields) -> Vlans | None:
    """What the configuration says of VLANs; None, as for most, if nothing, so that their module need not be loaded."""
    vlan, keeps_default = fields.number("vlan"), fields.flag("preserveDefaultVlan")
    trunk = fields.children("vlanTrunk", "VlanTrunk", "main.VlanTrunk", "[]*main.VlanTrunk")
    if not vlan and lookup(fields.data, "vlanTrunk") is None:
        return None
    from cni.lib.bridge_vlans import read_vlans

    return read_vlans(vlan, trunk, keeps_default)


def add(call: Call) -> Result:
    """Connect the pod."""
    config = Config(call)
    config.check_for_add()
    attachment = Attachment(call.container_id, call.ifname)
    with NetlinkSocket() as host, Rollback() as rollback:
        rules = masquerade_of(call, config)
        if rules:
            rollback.push(rules.abandon)
            rules.prepare()
        connection = Connection(call, config, host, rollback)
        reserved = _connect_and_reserve(call, config, connection, rollback)
        bridge, pair, netns = connection.bridge, connection.pair, connection.netns
        result = Result()
        result.interfaces = [
            Interface(bridge.name, bridge.link.mac),
            Interface(pair.host_name, links.format_mac(pair.host_mac)),
            Interface(call.ifname, links.format_mac(pair.mac), call.netns),
        ]
        if config.mac_spoof_check:
            from cni.lib import macspoof

            rollback.push(lambda: macspoof.remove(call.name, attachment))
            macspoof.setup(call.name, attachment, pair.host_name, links.format_mac(pair.mac))
        if reserved:
            result.ips, result.routes, result.dns = reserved.ips, reserved.routes, reserved.dns
            _configure_layer3(call, config, connection, result, rules, rollback)
            _wait_for_port(host, pair.host_name)
            _announce(netns, call.ifname, pair.mac)
        elif not config.stays_down:
            _configure_layer2(netns, call.ifname)
        _limit_gso(netns, call.ifname, config.gso_max_size)
        if config.dns.given:
            result.dns = config.dns
        rollback.pop_all()
    return result


class Connection:
    """The bridge, the pod's namespace, and the veth pair between them."""

    def __init__(self, call: Call, config: Config, host: NetlinkSocket, rollback: Rollback) -> None:
        self._call = call
        self._config = config
        self._host = host
        self._rollback = rollback
        self.bridge = Bridge(host, config.bridge, config.mtu, config.promiscuous, config.vlans is not None)
        self.netns: Netns
        self.pair: veth.VethPair

    def make(self) -> None:
        """Make what is missing. Raises CniError."""
        config, host = self._config, self._host
        mac = links.parse_mac(config.mac) if config.mac else None
        with NetnsLock():
            self.bridge.ensure()
            self._rollback.push(self.bridge.remove_if_unused)
            if config.vlans:
                self.bridge.require_vlan_filtering()
            self.netns = open_netns(self._call.netns)
            self.pair = veth.make_pair(host, self.netns, self._call, config.mtu, mac, self.bridge.link.index)
            self._rollback.push(lambda: links.delete_link(host, self.pair.host_name))
            if config.vlans:
                self._enter_vlans(config.vlans)
        sysctl.try_write(f"net/ipv6/conf/{self.pair.host_name}/accept_ra", "0")
        if config.hairpin or config.isolated:
            port = links.get_link(host, self.pair.host_name)
            links.set_bridge_port(host, port.index, config.hairpin, config.isolated)

    def _enter_vlans(self, vlans: Vlans) -> None:
        """Put the pod's port into its VLANs, before anything passes."""
        from cni.lib.bridge_vlans import set_port

        name = self.pair.host_name
        try:
            set_port(self._host, links.get_link(self._host, name).index, self.bridge.link, vlans)
        except NetlinkError as error:
            raise CniError(f'failed to setup vlan tag on interface "{name}": {error}') from error

    def gateway(self) -> Bridge | VlanGateway:
        """What the gateways' addresses go to: the bridge, or the interface of its VLAN, made if missing."""
        vlans = self._config.vlans
        if not vlans or not vlans.vlan:
            return self.bridge
        from cni.lib.vlan_gateway import VlanGateway

        port = links.get_link(self._host, self.pair.host_name).index
        gateway = VlanGateway(self._host, self.bridge.link, vlans, port)
        gateway.ensure()
        self._rollback.push(gateway.remove_if_unused)
        return gateway


def _connect_and_reserve(call: Call, config: Config, connection: Connection, rollback: Rollback) -> Result | None:
    """Make the connection and, for layer 3, reserve addresses; what the rest needs is loaded while the veth is made."""
    if not config.layer3:
        connection.make()
        return None
    making = Background(connection.make)
    try:
        ipam.prepare(call)
        prepare_setns()
    finally:
        making.wait()
    reserved = ipam.add(call)
    rollback.push(lambda: ipam.delete(call))
    return reserved


def _configure_layer3(
    call: Call, config: Config, connection: Connection, result: Result, rules: Masquerade | None, rollback: Rollback
) -> None:
    """Addresses, routes, gateway and masquerade."""
    netns = connection.netns
    gateways = complete_gateways(config, result)
    networks = [ip.address for ip in result.ips]
    if rules:
        rollback.push(rules.remove)
        started = rules.start(networks)
    try:
        with netns:
            _set_pod_sysctls(call.ifname, config.detect_duplicates)
        ipam.configure_interface(netns, call.ifname, result, config.detect_duplicates)
        if gateways:
            device = connection.gateway()
            device.add_gateways(gateways, config.force_address)
            if device is not connection.bridge:
                result.interfaces.append(Interface(device.name, device.link.mac))
        for of_family in {family(gateway.ip): None for gateway in gateways}:
            enable_forwarding(of_family)
    finally:
        if rules:
            rules.finish(started)


def masquerade_of(call: Call, config: Config) -> Masquerade | None:
    """The pod's masquerade rules, None where it has none; most calls need not import them."""
    if not (config.masquerade and config.layer3):
        return None
    from cni.lib.masquerade import Masquerade

    return Masquerade(call.name, Attachment(call.container_id, call.ifname), config.masquerade_backend)


def complete_gateways(config: Config, result: Result) -> list[IPNet]:
    """Fill in the gateways and default routes that the configuration asks for; gives the bridge's addresses.

    An address without a gateway gets the first address of its subnet. With isDefaultGateway each family gets a
    default route, unless the IPAM plugin has one with a gateway.
    """
    gateways = []
    with_default = {len(route.dst.ip) for route in result.routes if route.gw and route.dst == _default(route.dst)}
    for ip in result.ips:
        ip.interface = POD_INTERFACE
        if not config.gateway:
            continue
        if ip.gateway is None:
            ip.gateway = first_address(ip)
        length = len(ip.address.ip)
        if config.default_gateway and length not in with_default:
            result.routes.append(Route(default_net(length), ip.gateway))
            with_default.add(length)
        gateways.append(IPNet(ip.gateway, ip.address.prefix_len))
    return gateways


def _default(net: IPNet) -> IPNet:
    return default_net(len(net.ip))


def first_address(ip: IPConfig) -> bytes:
    """The address after the network's own."""
    length = len(ip.address.ip)
    return from_number((number(ip.address.network.ip) + 1) % (1 << length * 8), length)


def _set_pod_sysctls(ifname: str, detect_duplicates: bool) -> None:
    """Inside the pod: addresses are usable at once, and neighbours hear of a moved address."""
    if detect_duplicates:
        sysctl.try_write(f"net/ipv6/conf/{ifname}/enhanced_dad", "1")
    sysctl.try_write(f"net/ipv6/conf/{ifname}/accept_dad", "1" if detect_duplicates else "0")
    sysctl.try_write(f"net/ipv4/conf/{ifname}/arp_notify", "1")
    sysctl.try_write(f"net/ipv6/conf/{ifname}/ndisc_notify", "1")


def _announce(netns: Netns, ifname: str, mac: bytes) -> None:
    """Tell the neighbours, now that the port passes traffic, who has the pod's addresses.

    The kernel does so when the interface goes up (arp_notify, ndisc_notify), which a port that does not pass traffic
    yet swallows; neighbours that knew the addresses from an earlier pod would go on asking for that one. It says it
    again when it is given a hardware address, be it the one that it has.
    """
    with netns.netlink() as inside:
        try:
            links.set_link(inside, links.get_link(inside, ifname).index, attribute(links.IFLA_ADDRESS, mac))
        except NetlinkError:  # a pod that is not heard of is found all the same, only later
            return


def _configure_layer2(netns: Netns, ifname: str) -> None:
    with netns.netlink() as inside:
        links.set_up(inside, links.get_link(inside, ifname).index)


def _limit_gso(netns: Netns, ifname: str, size: int) -> None:
    """Let the pod's super-packets be no larger than what the node's tunnel sends in one piece.

    This saves work and changes nothing else, so a kernel that cannot do it is no error. Before Linux 6.3 there is
    one limit for both families.
    """
    if size <= 0:
        return
    both = attribute_u32(links.IFLA_GSO_MAX_SIZE, size)
    with netns.netlink() as inside:
        index = links.get_link(inside, ifname).index
        for limits in (both + attribute_u32(links.IFLA_GSO_IPV4_MAX_SIZE, size), both):
            try:
                links.set_link(inside, index, limits)
                return
            except NetlinkError:
                continue


def _wait_for_port(host: NetlinkSocket, name: str) -> None:
    """Until the bridge passes traffic to the pod."""
    import time

    deadline = time.monotonic() + PORT_UP_SECONDS
    pause = FIRST_POLL_SECONDS
    while (state := links.get_link(host, name).operstate) != "up":
        if time.monotonic() > deadline:
            raise CniError(f"bridge port in error state: {state}")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_POLL_SECONDS)


def delete(call: Call) -> None:
    """Disconnect the pod: every step is tried, the first failure is reported.

    Nothing of the configuration counts but the IPAM plugin: the rest may have changed since the ADD.
    """
    from cni.lib import macspoof, masquerade

    rules = masquerade.removal_of(call)
    attachment = Attachment(call.container_id, call.ifname)
    with Attempts() as attempts, NetlinkSocket() as host:
        if through_interface := ipam.needs_interface(call):
            attempts.run(lambda: ipam.forward(call))
        removing = Background(lambda: veth.delete_pair(host, call))
        attempts.run(rules.start)
        if not through_interface:
            attempts.run(lambda: ipam.forward(call))
        attempts.run(lambda: macspoof.remove(call.name, attachment))
        attempts.run(rules.finish)
        attempts.run(removing.wait)


def check(call: Call) -> None:
    """The bridge, both ends of the pair, the addresses and the routes have to be as the ADD left them."""
    from cni.lib.bridge_check import check_attachment

    config = Config(call)
    check_attachment(call, config.bridge, config.promiscuous, config.vlans)


def gc(call: Call) -> None:
    """Remove the veths, rules and reservations of this network's pods that are gone."""
    valid = call.valid_attachments()
    if valid is None:
        return
    from cni.lib import macspoof, masquerade

    with Attempts() as attempts:
        attempts.run(lambda: veth.collect_garbage(call.name, valid))
        attempts.run(lambda: macspoof.collect_garbage(call.name, valid))
        attempts.run(lambda: masquerade.collect_garbage(call.name, valid))
        attempts.run(lambda: ipam.forward(call))


def status(call: Call) -> None:
    """Ready when the IPAM plugin is."""
    Config(call)
    ipam.forward(call)


PLUGIN = Plugin("bridge", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
