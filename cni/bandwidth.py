"""bandwidth: limits the rate of a pod's traffic, each way.

A chained plugin, on the node's end of the pod's veth pair. What goes to the pod (ingress) leaves that end, and a token
bucket there limits it. What comes from the pod (egress) arrives there; it is sent through an ifb device of the pod's
own, `bwp` and a hash of network and container id, with another token bucket (see cni.lib.qdisc).

The limits come from the configuration or, where that has none, from the runtime (runtimeConfig.bandwidth), in bits and
bits a second. Subnets at the pod's other end can be left out, or be the only ones that count: see
cni.lib.subnet_shaping.

The veth takes its qdiscs along when it goes; DEL has only the ifb to remove. Whose that is stands on it as its label
(see cni.lib.ownership). Its name is the official plugin's, which all interfaces of a container in a network have in
common; a second interface's device has the interface in the hash as well.
"""

from __future__ import annotations

from cni.lib import links, ownership, qdisc
from cni.lib.errors import UNSUPPORTED_FIELD, CniError
from cni.lib.firewall import hash_text
from cni.lib.gojson import Fields, JsonTypeError, dumps, lookup
from cni.lib.ip import IPNet, parse_cidr
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute_u32
from cni.lib.netns import NetnsLock, open_netns
from cni.lib.qdisc import TokenBucket
from cni.lib.rollback import Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import Interface, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.lib.subnet_shaping import End, Subnets

LIMITS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
SUBNETS = ("shapedSubnets", "unshapedSubnets")
IFB_PREFIX = "bwp"
IFB_HASH_LENGTH = 12
FORMER_ALIAS = "udplane network "  # with the network's name alone, as an earlier version wrote it
ENOENT = 2
EEXIST = 17
MAX_BURST_BYTES = (1 << 32) - 1
BITS_PER_BYTE = 8


class Config:
    """The limits: a bucket for each way, None where there is no limit."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = _limits(call)
            numbers = [fields.number(key, go_type="uint64") if fields else 0 for key in LIMITS]
            own = call.fields("PluginConf")
            listed = own if any(lookup(call.conf, key) for key in SUBNETS) else fields
            subnets = [listed.texts(key) if listed else [] for key in SUBNETS]
        except JsonTypeError as error:
            raise CniError(f"failed to parse network configuration: {error}") from None
        self.ingress = _bucket(numbers[0], numbers[1])
        self.egress = _bucket(numbers[2], numbers[3])
        shaped, unshaped = ([_subnet(text) for text in lists] for lists in subnets)
        if shaped and unshaped:
            raise CniError(
                "unshapedSubnets and shapedSubnets cannot be both specified, one of them should be discarded"
            )
        self.shaped, self.unshaped = shaped, unshaped

    @property
    def subnets(self) -> Subnets | None:
        """Which subnets the limits are for; None if for all."""
        if not self.shaped and not self.unshaped:
            return None
        from cni.lib.subnet_shaping import Subnets

        return Subnets(self.shaped, self.unshaped)


def _limits(call: Call) -> Fields | None:
    """The object that holds the limits: the configuration if it has any of the keys, else the runtime's."""
    fields = call.fields("PluginConf")
    if any(lookup(call.conf, key) is not None for key in LIMITS):
        return fields
    runtime_config = fields.child("runtimeConfig", "")
    return runtime_config.child("bandwidth", "BandwidthEntry") if runtime_config else None


def _subnet(text: str) -> IPNet:
    net = parse_cidr(text)
    if net is None:
        raise CniError(f"bad subnet {dumps(text)} provided, details invalid CIDR address: {text}")
    return net


def _bucket(rate: int, burst: int) -> TokenBucket | None:
    if rate and not burst:
        raise CniError("if rate is set, burst must also be set")
    if burst and not rate:
        raise CniError("if burst is set, rate must also be set")
    if burst // BITS_PER_BYTE >= MAX_BURST_BYTES:
        raise CniError("burst cannot be more than 4GB")
    if 0 < rate < BITS_PER_BYTE:
        raise CniError(f"invalid rate: {rate} bits a second is less than a byte a second")
    return TokenBucket.of(rate, burst) if rate else None


def ifb_name(network: str, container_id: str, ifname: str = "") -> str:
    """The name of a pod's ifb device; with `ifname`, of a further interface's."""
    return IFB_PREFIX + hash_text(network + container_id + (f"/{ifname}" if ifname else ""), IFB_HASH_LENGTH)


def ifb_names(call: Call) -> tuple[str, str]:
    """The names that the call's device may have."""
    return ifb_name(call.name, call.container_id), ifb_name(call.name, call.container_id, call.ifname)


def find_ifb(host: NetlinkSocket, call: Call) -> links.Link | None:
    """The call's device, None if there is none.

    One that nobody has labelled is an official plugin's, or an earlier version's, whose names say no more.
    """
    attachment = Attachment(call.container_id, call.ifname)
    found = [link for name in ifb_names(call) if (link := links.find_link(host, name)) is not None]
    ours = [link for link in found if ownership.alias(link) == ownership.label(call.name, attachment)]
    former = [link for link in found if ownership.alias(link) in ("", FORMER_ALIAS + call.name)]
    return next((link for link in ours + former if link.kind == "ifb"), None)


def _previous(call: Call) -> Result | None:
    return call.prev_result("PluginConf", "failed to parse network configuration: ", "could not parse prevResult: ")


def add(call: Call) -> Result:
    """Set the limits; the result is that of the plugins before, and the ifb device."""
    config = Config(call)
    previous = _previous(call)
    if previous is None:
        raise CniError("must be called as chained plugin")
    if config.ingress is None and config.egress is None:
        return previous
    with NetlinkSocket() as host, Rollback() as rollback:
        veth = find_host_end(host, call, previous)
        if config.ingress:
            _shape(host, veth.index, config.ingress, config.subnets, "source")
            rollback.push(lambda: qdisc.remove_root(host, veth.index))
        if config.egress:
            ifb = _make_ifb(host, call, veth, rollback)
            _shape_arriving(host, veth, ifb, config, rollback)
            previous.interfaces.append(Interface(ifb.name, ifb.mac))
        rollback.pop_all()
    return previous


def find_host_end(host: NetlinkSocket, call: Call, previous: Result) -> links.Link:
    """The node's end of the pod's veth pair, which has to be in the result. Raises CniError."""
    if not previous.interfaces:
        raise CniError("no interfaces provided")
    with open_netns(call.netns).netlink() as inside:
        pod = links.find_link(inside, call.ifname)
    problem = f"container interface {call.ifname} has no veth peer"
    if pod is None:
        raise CniError(f'{problem}: could not look up "{call.ifname}": Link not found')
    if pod.kind != "veth":
        raise CniError(f"{problem}: it is not a veth")
    end = links.find_link(host, index=pod.peer)
    if end is None:
        raise CniError(f"veth peer with index {pod.peer} is not in host ns")
    if not any(interface.name == end.name and not interface.sandbox for interface in previous.interfaces):
        raise CniError("no veth peer of container interface found in host ns")
    return end


def _shape(host: NetlinkSocket, index: int, bucket: TokenBucket, subnets: Subnets | None, end: End) -> None:
    """Limit what leaves a link; `end` says which address is that of the pod's other end."""
    try:
        if subnets is None:
            qdisc.add_token_bucket(host, index, bucket)
        else:
            from cni.lib import subnet_shaping

            subnet_shaping.add(host, index, bucket, subnets, end)
    except NetlinkError as error:
        if subnets is not None and error.errno == ENOENT:
            text = (
                "shapedSubnets and unshapedSubnets need the kernel's HTB scheduler: modprobe sch_htb, or leave them out"
            )
            raise CniError(text, UNSUPPORTED_FIELD) from error
        raise CniError(f"create qdisc: {error}") from error


def _make_ifb(host: NetlinkSocket, call: Call, veth: links.Link, rollback: Rollback) -> links.Link:
    """Make the device and label it, which takes two messages: GC, which takes the lock too, comes before or after."""
    attributes = (attribute_u32(links.IFLA_MTU, veth.mtu), attribute_u32(links.IFLA_TXQLEN, veth.tx_queue_len))
    with NetnsLock():
        taken = find_ifb(host, call) is not None
        for name in ifb_names(call):
            try:
                links.add_link(host, name, "ifb", *attributes)
                break
            except NetlinkError as error:
                if error.errno != EEXIST or taken or name == ifb_names(call)[-1]:
                    raise CniError(f"adding link: {error}") from error
        rollback.push(lambda: links.delete_link(host, name))
        ifb = links.get_link(host, name)
        label = ownership.label_attribute(call.name, Attachment(call.container_id, call.ifname))
        links.set_link(host, ifb.index, label, flags=links.IFF_UP, change=links.IFF_UP)
    return ifb


def _shape_arriving(host: NetlinkSocket, veth: links.Link, ifb: links.Link, config: Config, rollback: Rollback) -> None:
    """Send what arrives at the veth through the ifb, and limit it there."""
    try:
        rollback.push(lambda: qdisc.remove_ingress(host, veth.index))
        qdisc.redirect_ingress(host, veth.index, ifb.index)
    except NetlinkError as error:
        raise CniError(f"create ingress qdisc: {error}") from error
    assert config.egress
    try:
        _shape(host, ifb.index, config.egress, config.subnets, "destination")
    except CniError as error:
        raise CniError(error.msg.replace("create qdisc", "create ifb qdisc"), error.code) from error


def delete(call: Call) -> None:
    """Remove the ifb device; it may be gone."""
    with NetlinkSocket() as host:
        ifb = find_ifb(host, call)
        if ifb is not None:
            links.delete_link(host, index=ifb.index)


def check(call: Call) -> None:
    """The buckets have to be as configured."""
    config = Config(call)
    previous = _previous(call)
    if previous is None:
        raise CniError("must be called as a chained plugin")
    with NetlinkSocket() as host:
        veth = find_host_end(host, call, previous)
        if config.ingress:
            _check_bucket(host, veth.index, config.ingress, config.subnets, "source")
        if config.egress:
            ifb = find_ifb(host, call)
            if ifb is None:
                raise CniError("get ifb device: Link not found")
            _check_bucket(host, ifb.index, config.egress, config.subnets, "destination")


def _check_bucket(host: NetlinkSocket, index: int, wanted: TokenBucket, subnets: Subnets | None, end: End) -> None:
    if subnets is not None:
        from cni.lib import subnet_shaping

        if problem := subnet_shaping.problem(host, index, wanted, subnets, end):
            raise CniError(problem)
        return
    found = qdisc.token_buckets(host, index)
    if not found:
        raise CniError("Failed to find qdisc")
    for bucket in found:
        if bucket.rate != wanted.rate:
            raise CniError("Rate doesn't match")
        if bucket.limit != wanted.limit:
            raise CniError("Limit doesn't match")
        if bucket.buffer != wanted.buffer:
            raise CniError("Buffer doesn't match")


def gc(call: Call) -> None:
    """Remove the ifb devices of this network's pods that are gone."""
    valid = call.valid_attachments()
    if valid is None:
        return
    live = {ifb_name(call.name, attachment.container_id) for attachment in valid}
    with NetnsLock(), NetlinkSocket() as host:
        for link in links.list_links(host, kind="ifb"):
            former = ownership.alias(link) == FORMER_ALIAS + call.name and link.name not in live
            if former or _is_half_made(link) or ownership.is_stale(link, call.name, valid):
                links.delete_link(host, index=link.index)


def _is_half_made(link: links.Link) -> bool:
    """Whether a link is the work of an ADD that was killed before it labelled and switched on its device."""
    named_by_us = link.name.startswith(IFB_PREFIX) and len(link.name) == len(IFB_PREFIX) + IFB_HASH_LENGTH
    return named_by_us and not ownership.alias(link) and not link.up


def status(call: Call) -> None:
    """Nothing is needed beforehand but a configuration that can be read."""
    Config(call)


PLUGIN = Plugin("bandwidth", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
