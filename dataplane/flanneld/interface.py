"""Which interface faces the underlay, as flannel chooses it (flannel main.go and pkg/ipmatch/match.go).

The first that fits of: each -iface, by name or address; each -iface-regex, first tried on the addresses of all
interfaces, then on their names; the interface of the route to -iface-can-reach. With none of these flags it is the
default route's.
"""

import logging
import re
import socket
from collections.abc import Iterator

from dataplane.addresses import Address
from dataplane.errors import ConfigError, NodeError
from dataplane.flanneld.options import FlanneldOptions
from dataplane.kernel import netdev

_log = logging.getLogger(__name__)


def choose_interface(flannel: FlanneldOptions, version: int, public: Address | None) -> str:
    """The address of that interface, of one IP version, which is where the node binds its socket.

    `public` is the node's public address, preferred if the interface has it. NodeError if no interface fits.
    """
    for wanted in _candidates(flannel, version):
        try:
            interface = netdev.external_interface(wanted, public)
            address = interface.address_of(version)
            if address is None:
                raise NodeError(f"interface {interface.name} has no usable IPv{version} address")
        except NodeError as error:
            if not wanted:
                raise
            _log.info("Could not find valid interface matching %s: %s", wanted, error)
        else:
            return str(address)
    raise NodeError(
        "Failed to find interface to use that matches the interfaces and/or regexes provided; see `ip address` and "
        "--iface, --iface-regex, --iface-can-reach"
    )


def _candidates(flannel: FlanneldOptions, version: int) -> Iterator[str]:
    """Names and addresses to try, the best first; an empty text is the default route's interface."""
    yield from flannel.iface
    for pattern in flannel.iface_regex:
        yield from _matching(pattern, version)
    if flannel.iface_can_reach:
        yield from _source_towards(flannel.iface_can_reach)
    if not (flannel.iface or flannel.iface_regex or flannel.iface_can_reach):
        yield ""


def _matching(pattern: str, version: int) -> Iterator[str]:
    """The addresses that match, then the interfaces whose names do."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--iface-regex {pattern!r} is no pattern: {error}") from error
    yield from (str(a) for _, a in netdev.usable_addresses() if a.version == version and found.search(str(a)))
    yield from (name for _, name in socket.if_nameindex() if found.search(name))


def _source_towards(target: str) -> Iterator[str]:
    """The address from which packets to `target` would leave; nothing is sent to learn it."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            yield str(probe.getsockname()[0])
    except OSError as error:
        _log.info("Could not find valid interface matching ifaceCanReach: %s: %s", target, error.strerror or error)
