"""Gives addresses to containers, and takes them back.

    host_local.py DIRECTORY SUBNET add CONTAINER     prints the address of the container
    host_local.py DIRECTORY SUBNET del CONTAINER     frees it; succeeds if there is none

All that is remembered lies in files of DIRECTORY, which is there, and empty at first.
"""

import fcntl
import ipaddress
import json
import sys
from contextlib import contextmanager
from pathlib import Path


def add(directory, subnet, container):
    """Return the address that the container has, or else one that is free. Raises LookupError when none is."""
    with locked(directory):
        leases = read(directory)
        leases[container] = choose(leases, subnet, container)
        write(directory, leases)
        return leases[container]


def delete(directory, subnet, container):
    """Free the address of the container, if it has one."""
    with locked(directory):
        leases = read(directory)
        leases.pop(container, None)
        write(directory, leases)


@contextmanager
def locked(directory):
    """Nobody else reads or writes in the meantime. The kernel lets go of the lock when the process ends, however it does."""
    with Path(directory, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def choose(leases, subnet, container):
    """The address that the container has or gets. Raises LookupError when none is free."""
    if container in leases:
        return leases[container]
    for address in candidates(subnet):
        if address not in leases.values():
            return address
    raise LookupError("all are given away")


def read(directory):
    """Which container has which address."""
    file = Path(directory, "leases.json")
    return json.loads(file.read_text()) if file.exists() else {}


def write(directory, leases):
    """Remember it."""
    Path(directory, "leases.json").write_text(json.dumps(leases))


def candidates(subnet):
    """The addresses to give away, as text: all hosts of the subnet but the first, which is the gateway."""
    return [str(address) for address in list(ipaddress.ip_network(subnet).hosts())[1:]]


def main(directory, subnet, verb, container):
    if verb == "del":
        delete(directory, subnet, container)
        return
    try:
        print(add(directory, subnet, container))
    except LookupError as error:
        sys.exit(f"no address: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
