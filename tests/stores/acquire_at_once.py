"""Many processes acquire a lease from one store at the same moment.

Run as `python acquire_at_once.py STORE_URL COUNT`. The processes are forked from one that has imported everything,
wait at a gate, and go when all stand there. Prints one JSON list: for each process the key of its lease,
or the text of its error.
"""

import asyncio
import json
import os
import sys
from ipaddress import IPv4Address

from dataplane.errors import UdplaneError
from dataplane.leases.lease import LeaseAttrs
from dataplane.stores.base import AcquireRequest
from dataplane.stores.registry import open_store

FIRST_ADDRESS = IPv4Address("192.168.0.1")


def acquire(url: str, number: int) -> str:
    """Acquire as the node with public address number `number`."""
    request = AcquireRequest(LeaseAttrs(FIRST_ADDRESS + number))
    try:
        return asyncio.run(open_store(url).acquire(request)).key
    except UdplaneError as error:
        return f"failed: {error}"


def main(url: str, count: int) -> None:
    """Fork, open the gate, collect."""
    open_store(url)  # imports the store's module before the fork
    gate_out, gate_in = os.pipe()
    result_out, result_in = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(gate_in)
            os.read(gate_out, 1)  # returns when the parent closes its end
            os.write(result_in, f"{acquire(url, number)}\n".encode())
            os._exit(0)
        children.append(child)
    os.close(result_in)
    os.close(gate_in)
    with os.fdopen(result_out) as results:
        lines = results.read().splitlines()
    for child in children:
        os.waitpid(child, 0)
    print(json.dumps(lines))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
