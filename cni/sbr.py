"""sbr: source based routing. What a pod sends from an interface's address leaves by that interface.

A chained plugin, after the one that wires the interface. Every address gets a routing table of its own, from 100 on,
and a rule (`from 10.9.0.2 lookup 100`). ADD

1. takes the first tables that no rule leads to and that hold no route;
2. makes the rule, and a default route by the address's gateway in its table;
3. copies the interface's routes of the main table there: those that have this address or whose next hop is in its
   subnet, and those that name neither;
4. takes what was copied from the main table, so that the pod's other interfaces are not in its way.

With `table`, somebody else keeps that table, and only the rules are made. DEL removes the rules; the tables empty when
the interface goes. All this is the pod's own, and under a lock on its namespace, which the official plugin takes, too.
"""

from __future__ import annotations

from cni.lib import addresses, kept_routes, links, rules
from cni.lib.addresses import KernelRoute
from cni.lib.errors import INVALID_NETWORK_CONFIG, CniError
from cni.lib.gojson import JsonTypeError, lookup
from cni.lib.ip import default_net, format_ip
from cni.lib.kept_routes import KeptRoute
from cni.lib.netlink import NetlinkError, NetlinkSocket
from cni.lib.netns import Netns, NetnsLock, open_netns_if_present
from cni.lib.rollback import Attempts, Rollback
from cni.lib.rules import Rule
from cni.lib.skel import Call, Plugin, main
from cni.lib.tenant import is_anothers
from cni.lib.types import IPConfig, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_TABLE = 100
MAX_TABLE = (1 << 32) - 1


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields("PluginConf")
            table = fields.number("table")
        except JsonTypeError as error:
            raise CniError(f"failed to parse network configuration: {error}") from None
        self.table = None if lookup(call.conf, "table") is None else table
        if self.table is not None and not 0 < self.table <= MAX_TABLE:
            raise CniError(f"invalid table {table}, must be [1, {MAX_TABLE}]", INVALID_NETWORK_CONFIG)


def add(call: Call) -> Result:
    """Route by source; the result is that of the plugins before."""
    config = Config(call)
    previous = _previous(call)
    if not previous.ips:
        raise CniError(f"No IP addresses supplied on interface: {call.ifname}")
    ips = _of_interface(call, previous)
    netns = Netns(call.netns)
    with NetnsLock(netns), netns.netlink() as inside, Rollback() as rollback:
        if config.table is None:
            _divert(inside, call.ifname, ips, rollback)
        else:
            for ip in ips:
                _add_rule(inside, Rule(ip.address.ip, config.table), "failed to add rule", rollback)
        rollback.pop_all()
    return previous


def _previous(call: Call) -> Result:
    previous = call.prev_result("types.PluginConf", "failed to parse network configuration: ")
    if previous is None:
        raise CniError("This plugin must be called as chained plugin")
    return previous


def _of_interface(call: Call, previous: Result) -> list[IPConfig]:
    """The addresses that are the interface's, or nobody's in particular."""

    def is_elsewhere(ip: IPConfig) -> bool:
        at = ip.interface
        return at is not None and 0 <= at < len(previous.interfaces) and previous.interfaces[at].name != call.ifname

    return [ip for ip in previous.ips if not is_elsewhere(ip)]


def _add_rule(inside: NetlinkSocket, rule: Rule, complaint: str, rollback: Rollback) -> None:
    try:
        rules.add_rule(inside, rule)
    except NetlinkError as error:
        raise CniError(f"{complaint}: {error}") from error
    rollback.push(lambda: rules.delete_rule(inside, rule))


def _divert(inside: NetlinkSocket, ifname: str, ips: list[IPConfig], rollback: Rollback) -> None:
    """Steps 1 to 4."""
    link = links.find_link(inside, ifname)
    if link is None:
        raise CniError(f"Cannot find network interface {ifname}: Link not found")
    in_use = rules.tables_in_use(inside)
    routes = [route for route in kept_routes.list_kept(inside, link.index) if not route.is_link_local]
    copied: set[KeptRoute] = set()
    table = FIRST_TABLE
    for ip in ips:
        table = addresses.free_table(inside, in_use, table)
        _add_rule(inside, Rule(ip.address.ip, table), "Failed to add rule", rollback)
        if ip.gateway:
            _add_default_route(inside, link.index, ip.gateway, len(ip.address.ip), table, rollback)
        mine = [route for route in routes if _concerns(route, ip)]
        for route in mine:
            _put(inside, route, table, rollback)
        copied.update(mine)
        table += 1
    for route in routes:
        if route in copied:
            _take(inside, route, rollback)


def _add_default_route(
    inside: NetlinkSocket, index: int, gateway: bytes, length: int, table: int, rollback: Rollback
) -> None:
    route = KernelRoute(default_net(length), index, gateway)
    route.table = table
    try:
        addresses.add_route(inside, route)
    except NetlinkError as error:
        raise CniError(f"Failed to add default route to {format_ip(gateway)}: {error}") from error
    rollback.push(lambda: addresses.delete_route(inside, route))


def _concerns(route: KeptRoute, ip: IPConfig) -> bool:
    """Whether a route of the main table is to be found by what is sent from the address."""
    hints = [hint for hint in (route.source, route.gateway) if hint is not None]
    return not hints or any(ip.address.contains(hint) for hint in hints)


def _put(inside: NetlinkSocket, route: KeptRoute, table: int, rollback: Rollback) -> None:
    try:
        kept_routes.put(inside, route, table)
    except NetlinkError as error:
        raise CniError(f"Failed to readd route: {error}") from error
    rollback.push(lambda: kept_routes.take(inside, route, table))


def _take(inside: NetlinkSocket, route: KeptRoute, rollback: Rollback) -> None:
    try:
        kept_routes.take(inside, route, addresses.RT_TABLE_MAIN)
    except NetlinkError as error:
        raise CniError(f"Failed to delete route: {error}") from error
    rollback.push(lambda: kept_routes.put_back(inside, route, addresses.RT_TABLE_MAIN))


def delete(call: Call) -> None:
    """Remove the rules of the interface's addresses, and of those that the result tells of.

    Where the interface is gone, those as well that lead from an address which nobody has to a table without routes.
    """
    netns = open_netns_if_present(call.netns)
    if netns is None:
        return
    with NetnsLock(netns), netns.netlink() as inside, Attempts() as attempts:
        sources = _sources(inside, call)
        is_gone = links.find_link(inside, call.ifname) is None
        for rule in rules.list_rules(inside):
            if rule.source in sources or (is_gone and _is_orphan(inside, rule)):
                attempts.run(_deleting(inside, rule))


def _deleting(inside: NetlinkSocket, rule: Rule) -> Callable[[], None]:
    return lambda: rules.delete_rule(inside, rule)


def _is_orphan(inside: NetlinkSocket, rule: Rule) -> bool:
    held = any(address.net.ip == rule.source for address in addresses.list_addresses(inside))
    return rule.table >= FIRST_TABLE and not held and not addresses.has_routes(inside, rule.table)


def _sources(inside: NetlinkSocket, call: Call) -> set[bytes]:
    """The addresses whose rules are to go. What an interface has that is not the attachment's is not among them."""
    link = links.find_link(inside, call.ifname)
    index = link.index if link is not None and not is_anothers(link, call) else 0
    here = addresses.list_addresses(inside)
    previous = call.prev_result_if_any()
    told = {ip.address.ip for ip in _of_interface(call, previous)} if previous else set()
    elsewhere = {address.net.ip for address in here if address.index != index}
    return {address.net.ip for address in here if address.index == index} | (told - elsewhere)


def check(call: Call) -> None:
    """Every address of the interface has to have its rule."""
    config = Config(call)
    previous = _previous(call)
    with Netns(call.netns).netlink() as inside:
        found = rules.list_rules(inside)
    for ip in _of_interface(call, previous):
        tables = [rule.table for rule in found if rule.source == ip.address.ip]
        if not tables or config.table not in (None, *tables):
            place = f" to table {config.table}" if config.table is not None else ""
            raise CniError(f"No rule for source {format_ip(ip.address.ip)}{place} found")


def gc(call: Call) -> None:
    """Rules and tables go with the pod's namespace."""


def status(call: Call) -> None:
    """Nothing is needed beforehand but a configuration that can be read."""
    Config(call)


PLUGIN = Plugin("sbr", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
