"""host-local: address management that keeps its reservations in files on this node.

ADD takes one address from each range set, DEL gives them back. Which ones are taken is the business of
cni.lib.reservations; which ones may be taken, of cni.lib.ranges. The search goes round robin, so that an address
that was given back rests as long as possible before somebody else gets it.

Beyond the official plugin: GC frees what no live attachment holds, STATUS reports a full range, reservations of a
former boot are freed (`"keepReservations": true` in `ipam` keeps them), and nothing slows down with their number.
"""

from __future__ import annotations

from cni.lib.args import parse_args
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError
from cni.lib.gojson import Fields
from cni.lib.ip import IPNet, format_ip, parse_cidr, parse_ip
from cni.lib.ranges import Range, RangeArguments, RangeSet, read_range
from cni.lib.reservations import Reservations
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import DNS, IPConfig, Result, Route
from cni.lib.versions import at_least

DEFAULT_DATA_DIR = "/var/lib/cni/networks"


class Config:
    """What `ipam` says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError, ValueError."""
        fields = call.fields("Net")
        ipam = fields.child("ipam", "IPAMConfig", "allocator.IPAMConfig")
        if ipam is None:
            raise CniError("IPAM config missing 'ipam' key")
        self.network = call.name
        self.data_dir = ipam.file_name("dataDir", DEFAULT_DATA_DIR)
        self.resolv_conf = ipam.file_name("resolvConf")
        self.keep_reservations = ipam.flag("keepReservations")
        self._ipam = ipam
        self.requested = read_requests(call, fields)
        self.range_sets = read_range_sets(fields, ipam)
        lengths = [item.address_length for item in self.range_sets]
        if max(lengths.count(4), lengths.count(16)) > 1 and not at_least(call.version, "0.3.0"):
            version = fields.text("cniVersion")
            raise CniError(f"CNI version {version} does not support more than 1 address per family")

    def routes(self) -> list[Route]:
        """What the result is to have of them; who gives an address back does not ask. Raises CniError, ValueError."""
        return Route.read_all(self._ipam)

    def open(self) -> Reservations:
        """The network's reservations, for a `with`."""
        return Reservations(self.data_dir, self.network, len(self.range_sets), not self.keep_reservations)


def read_requests(call: Call, fields: Fields) -> list[bytes]:
    """The addresses that the runtime asks for: IP in CNI_ARGS, args.cni.ips, runtimeConfig.ips."""
    requested = []
    text = parse_args(call, ("IP",)).get("IP", "")
    if text:
        ip = _ip_or_cidr(text)
        if ip is None:
            raise CniError(f'ARGS: error parsing value of pair "IP={text}": invalid IP address {text}')
        requested.append(ip)
    section = fields.child("args", "Args")
    section = section and section.child("cni", "IPAMArgs")
    for source in (section, fields.child("runtimeConfig", "RuntimeConfig")):
        for text in source.texts("ips") if source else []:
            ip = _ip_or_cidr(text)
            if ip is None:
                raise CniError(f"invalid IP address {text}")
            requested.append(ip)
    return list(dict.fromkeys(requested))


def _ip_or_cidr(text: str) -> bytes | None:
    net = parse_cidr(text)
    return net.ip if net else parse_ip(text)


def read_range_sets(fields: Fields, ipam: Fields) -> list[RangeSet]:
    """runtimeConfig.ipRanges, then the old single range, then ipam.ranges."""
    groups: list[list[RangeArguments]] = []
    runtime = fields.child("runtimeConfig", "RuntimeConfig")
    if runtime is not None:
        groups += _groups(runtime, "ipRanges")
    if ipam.text("subnet"):
        groups.append([read_range(ipam)])
    groups += _groups(ipam, "ranges")
    if not groups:
        raise CniError("no IP ranges specified")
    sets = []
    for i, group in enumerate(groups):
        try:
            sets.append(RangeSet([Range(*arguments) for arguments in group]))
        except CniError as error:
            raise error.wrap(f"invalid range set {i}") from None
    for i, one in enumerate(sets):
        for j, other in enumerate(sets[i + 1 :], start=i + 1):
            if one.overlaps(other):
                raise CniError(f"range set {i} overlaps with {j}")
    return sets


def _groups(fields: Fields, key: str) -> list[list[RangeArguments]]:
    """A list of lists of ranges."""
    groups = []
    for inner in fields.items(key, "[]allocator.RangeSet"):
        items = Fields({key: inner}, fields.struct, fields.path)
        groups.append(
            [read_range(item) for item in items.children(key, "Range", "allocator.Range", "allocator.RangeSet")]
        )
    return groups


def add(call: Call) -> Result:
    """Reserve one address from each range set."""
    config = Config(call)
    result = Result()
    result.routes = config.routes()
    if config.resolv_conf:
        result.dns = read_resolv_conf(config.resolv_conf)
    with config.open() as store:
        result.ips = allocate(store, config, Attachment(call.container_id, call.ifname))
    return result


def allocate(store: Reservations, config: Config, owner: Attachment) -> list[IPConfig]:
    """One address from each range set, or CniError and none at all."""
    pending = list(config.requested)
    ips: list[IPConfig] = []
    try:
        for i, range_set in enumerate(config.range_sets):
            wanted = next((ip for ip in pending if range_set.range_of(ip)), None)
            if wanted is not None:
                pending.remove(wanted)
            try:
                ips.append(_take(store, range_set, i, owner, wanted))
            except CniError as error:
                raise error.wrap(f"failed to allocate for range {i}") from None
        if pending:
            raise CniError(f"failed to allocate all requested IPs: {' '.join(map(format_ip, pending))}")
    except BaseException:
        store.release_ips(owner, [ip.address.ip for ip in ips])
        raise
    return ips


def _take(store: Reservations, range_set: RangeSet, i: int, owner: Attachment, wanted: bytes | None) -> IPConfig:
    """Reserve the wanted address, or the next free one."""
    if wanted is not None:
        return _take_requested(store, range_set, i, owner, wanted)
    for held in store.held_by(owner):
        if range_set.range_of(held):
            holder = f"{format_ip(held)} has been allocated to {owner.container_id}"
            raise CniError(f"{holder}, duplicate allocation is not allowed")
    taken: set[bytes] | None = None  # listed only when the first try fails
    for ip, source in range_set.candidates(store.last_reserved(i)):
        if taken is not None and ip in taken:
            continue
        if store.reserve(ip, owner, i):
            return _ip_config(ip, source)
        taken = taken or store.taken()
    raise CniError(f"no IP addresses available in range set: {range_set}")


def _take_requested(store: Reservations, range_set: RangeSet, i: int, owner: Attachment, wanted: bytes) -> IPConfig:
    source = range_set.range_of(wanted)
    if source is None:
        raise CniError(f"{format_ip(wanted)} not in range set {range_set}")
    if wanted == source.gateway:
        raise CniError(f"requested ip {format_ip(wanted)} is subnet's gateway")
    if not store.reserve(wanted, owner, i):
        raise CniError(f"requested IP address {format_ip(wanted)} is not available in range set {range_set}")
    return _ip_config(wanted, source)


def _ip_config(ip: bytes, source: Range) -> IPConfig:
    return IPConfig(IPNet(ip, source.subnet.prefix_len), source.gateway)


def read_resolv_conf(path: str) -> DNS:
    """The DNS settings in a file of the form of resolv.conf(5)."""
    dns = DNS()
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) < 2 or words[0][0] in "#;":
                continue
            if words[0] == "nameserver":
                dns.nameservers.append(words[1])
            elif words[0] == "domain":
                dns.domain = words[1]
            elif words[0] == "search":
                dns.search += words[1:]
            elif words[0] == "options":
                dns.options += words[1:]
    return dns


def owners(call: Call) -> tuple[Attachment, Attachment]:
    """The call's attachment, and how plugins of old, which wrote no interface, would have noted it."""
    return Attachment(call.container_id, call.ifname), Attachment(call.container_id, "")


def delete(call: Call) -> None:
    """Give back what the attachment holds, if anything."""
    store = Config(call).open()
    if not store.exists():
        return
    current, old = owners(call)
    with store:
        held = store.surely_held_by(current, old)
        holder = current if current in held.values() else old
        for owner in (current, old):
            store.release_ips(owner, [ip for ip in held if held[ip] == owner == holder])


def check(call: Call) -> None:
    """The attachment has to hold an address."""
    store = Config(call).open()
    held: dict[bytes, Attachment] = {}
    if store.exists():
        with store:
            held = store.surely_held_by(*owners(call))
    if not held:
        raise CniError(f"host-local: Failed to find address added by container {call.container_id}")


def gc(call: Call) -> None:
    """Free what no valid attachment holds."""
    valid = call.valid_attachments()
    store = Config(call).open()
    if valid is None or not store.exists():
        return
    ids = {attachment.container_id for attachment in valid}
    with store:
        for ip, owner in store.all().items():
            alive = owner in valid if owner.ifname else owner.container_id in ids
            if not alive:
                store.release_ips(owner, [ip])
        store.rebuild_index()  # an attachment whose file somebody has emptied is in none, and would stay in the index


def status(call: Call) -> None:
    """Ready as long as every range set has a free address."""
    config = Config(call)
    config.routes()
    store = config.open()
    if not store.exists():
        return
    with store:
        taken = set(store.all())
    for range_set in config.range_sets:
        if all(ip in taken for ip, _ in range_set.candidates(None)):
            raise CniError(f"no IP addresses available in range set: {range_set}", PLUGIN_NOT_AVAILABLE)


PLUGIN = Plugin("host-local", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
