"""Gives addresses to containers, and takes them back.

    host_local.py DIRECTORY SUBNET add CONTAINER     prints the address of the container
    host_local.py DIRECTORY SUBNET del CONTAINER     frees it; succeeds if there is none

All that is remembered lies in files of DIRECTORY, which is there, and empty at first.
"""

import ipaddress
import sys


def add(directory, subnet, container):
    """Return the address that the container has, or else one that is free. Raises LookupError when none is."""
    raise NotImplementedError("write add()")


def delete(directory, subnet, container):
    """Free the address of the container, if it has one."""
    raise NotImplementedError("write delete()")


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
