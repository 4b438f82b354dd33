"""Whether packets for peers go into the TUN: the wish that nothing of the host's leads them elsewhere.

The node's route is for a whole pod network, and loses against each longer one and against rules that come before the
main table (VPNs make such). The operator may mean that. So it is said, and not replaced.
"""

import socket
import time
from collections.abc import Callable, Iterable

from dataplane.addresses import Network
from dataplane.errors import NodeError
from dataplane.kernel.leftovers import NOTHING
from dataplane.kernel.rtnetlink import Tables

_REST = 20.0
"""So many times as long as it takes to ask the kernel it is left alone."""


class PeerWays:
    """A host's packets for each of `subnets` leave by `device`: a `wishes.Wish`.

    `vital` when the packets of a family for all peers go elsewhere: pods are cut off then, whoever means it.
    """

    leftovers = NOTHING

    def __init__(self, device: str, subnets: Callable[[], Iterable[Network]]) -> None:
        self.what = f"the way to each peer by {device}"
        self.vital = False
        self._device, self._subnets = device, subnets
        self._rest_until, self._found = 0.0, ""

    def difference(self) -> str:
        """How many go elsewhere, and where the first one goes."""
        started = time.monotonic()
        if started >= self._rest_until:
            self._found = self._look()
            self._rest_until = started + _REST * (time.monotonic() - started)
        return self._found

    def fulfil(self) -> None:
        """Only the operator can know what is meant: NodeError."""
        raise NodeError(f"{self.what} {self._found}; if that is not meant, remove the route or rule that leads there")

    def _look(self) -> str:
        try:
            index = socket.if_nametoindex(self._device)
        except OSError:
            return ""  # other wishes say so
        subnets = {subnet.network_address: subnet for subnet in self._subnets()}
        try:
            with Tables() as tables:
                elsewhere = {a: other for a, other in tables.outgoing(subnets).items() if other != index}
            kept = {address.version for address in subnets if address not in elsewhere}
            self.vital = any(address.version not in kept for address in elsewhere)
            if not elsewhere:
                return ""
            address, other = min(elsewhere.items(), key=lambda item: (item[0].version, item[0].packed))
            way = f"leave by {socket.if_indextoname(other)}" if other else "go nowhere"
        except OSError as error:
            raise NodeError(f"cannot see whether packets for peers go into {self._device}: {error.strerror}") from error
        return f"is not for {len(elsewhere)}: packets for {subnets[address]} {way} (`ip route get {address}`)"
