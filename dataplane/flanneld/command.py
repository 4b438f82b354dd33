"""The command `udplane flanneld`: starts as flanneld starts, in its order, and ends as it ends.

1. flags, then FLANNELD_* variables for those that were not given; --version and --help go to stderr
2. the store (flannel's subnet manager), then the health checks
3. the network config, asked for each second until there is one
4. br_netfilter must be there unless the config says EnableNFTables; then the external interface is chosen
5. lease, device, rules, subnet file, READY=1 to systemd

The last step is the node's own start. Exit status: 0 after SIGTERM, SIGINT, --version or --help; 1 when the node cannot
run; 2 for a command line that Go's package flag refuses (flannel prints the same text, then by a slip of its usage
function ends with 0, which a supervisor takes for success).

Two things are done better than flannel does them: a lease that was revoked is asked for again instead of ending the
daemon, and all that stays of a daemon that ends is used again by the next one.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from dataplane import __version__, logs
from dataplane.errors import NodeError, UdplaneError
from dataplane.flanneld import goflags
from dataplane.flanneld.interface import choose_interface
from dataplane.flanneld.options import FlanneldOptions
from dataplane.flanneld.translate import health_address, node_options, public_address, store_options, without_effect
from dataplane.leases.network_config import NetworkConfig
from dataplane.node import control
from dataplane.node.privileges import drop_privileges
from dataplane.options import NodeOptions

_log = logging.getLogger(__name__)

_BRIDGE_SYSCTLS = Path("/proc/sys/net/bridge")
_BRIDGE_CALLS = {4: "bridge-nf-call-iptables", 6: "bridge-nf-call-ip6tables"}


def main(arguments: Sequence[str]) -> int:
    """Run as flanneld with these arguments and the process' environment; returns the exit status."""
    try:
        values, rest = goflags.parse(FlanneldOptions, arguments)
    except (goflags.FlagError, goflags.HelpError) as refusal:
        lines = [*refusal.args, "Usage: udplane flanneld [OPTION]...", *goflags.usage(FlanneldOptions)]
        print("\n".join(lines), file=sys.stderr)
        return 2 if refusal.args else 0
    if values.get("version"):
        print(__version__, file=sys.stderr)
        return 0
    logs.configure("klog")
    complaints = goflags.fill_from_environment(FlanneldOptions, values, os.environ, "FLANNELD")
    for complaint in complaints:
        _log.error("Failed to set flag FLANNELD from env: %s", complaint)
    if rest:
        _log.warning("arguments after the flags mean nothing: %s", " ".join(rest))
    try:
        _run(FlanneldOptions(**values), os.environ)
    except UdplaneError as error:
        _log.error("%s", error)
        return 1
    return 0


def _run(flannel: FlanneldOptions, environment: Mapping[str, str]) -> None:
    """Run the node until it is told to stop. UdplaneError when it cannot run."""
    options = node_options(flannel, environment)
    logs.configure(options.log_format)
    if ignored := without_effect(flannel, environment):
        _log.warning("without effect here: %s", ", ".join(ignored))
    drop_privileges(options, store_options(flannel))
    from dataplane.node.node import Node  # which starts threads of libraries

    node = Node(options, store_options(flannel), lambda options, config: _fit(flannel, options, config))
    with ExitStack() as stack:
        if (where := health_address(flannel)) is not None:
            listener = stack.enter_context(control.health_socket(*where))
            stack.enter_context(control.serving(listener, _health_checks(lambda: node.ready)))
        asyncio.run(node.run())


def _health_checks(is_ready: Callable[[], bool]) -> control.Routes:
    """flannel's two checks, with its texts and codes: alive, and ready once the subnet file is there."""

    def healthz() -> control.Answer:
        return HTTPStatus.OK, "flanneld is running"

    def readyz() -> control.Answer:
        if is_ready():
            return HTTPStatus.OK, "flanneld is ready"
        return HTTPStatus.SERVICE_UNAVAILABLE, "flanneld is not ready yet"

    return {("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz}


def _fit(flannel: FlanneldOptions, options: NodeOptions, config: NetworkConfig) -> NodeOptions:
    """Decide what depends on the network config: the underlay's family, the interface, and who holds the rules."""
    _require_br_netfilter(config)
    version = 4 if config.ipv4 is not None else 6
    public = public_address(flannel, version)
    if options.firewall == "auto":
        options = replace(options, firewall="nftables" if config.enable_nftables else "iptables")
    return replace(options, public_ip=public, iface=choose_interface(flannel, version, public))


def _require_br_netfilter(config: NetworkConfig) -> None:
    """Without it kube-proxy's iptables rules do not see what pods of one node send each other through the bridge."""
    for version, pool in ((4, config.ipv4), (6, config.ipv6)):
        path = _BRIDGE_SYSCTLS / _BRIDGE_CALLS[version]
        if pool is not None and not config.enable_nftables and not path.exists():
            raise NodeError(f"Failed to check br_netfilter: {path} is missing; run `modprobe br_netfilter` on the host")
