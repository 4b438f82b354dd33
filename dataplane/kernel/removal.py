"""Removing what a node left on its host: by `udplane leave`, or when the node is another at its next start."""

from collections.abc import Iterator

from dataplane.errors import NodeError
from dataplane.kernel import netdev
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.kernel.rtnetlink import Tables


def remove_leftovers(leftovers: Leftovers, keep: Leftovers = NOTHING) -> Iterator[str]:
    """Remove what is in `leftovers` but not in `keep`, saying line by line what was done.

    Files go first, the subnet file among them, so that no CNI plugin starts a pod on what is about to vanish.
    Addresses, neighbours and routes of a device go with it. NodeError if that is not allowed, or if a device is not of
    the kind that it should be.
    """
    for path in leftovers.files:
        if path not in keep.files:
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise NodeError(f"cannot remove {path}: {error.strerror}; run as root") from error
            yield f"removed {path}"
    for name, kind in leftovers.devices.items():
        if name not in keep.devices and netdev.remove_device(name, kind):
            yield f"removed {name} with its addresses and routes"
    networks = [network for network in leftovers.networks if network not in keep.networks]
    with Tables() as tables:
        routes = tables.read(networks, devices=())
        refusals = tables.update(remove=routes, put=())
    if refusals:
        raise NodeError(f"cannot remove the routes to peers: {refusals[0].reason}; run as root")
    if routes:
        yield f"removed {len(routes)} route{'s' * (len(routes) > 1)} to peers"
