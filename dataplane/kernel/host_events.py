"""News of links, addresses and routes from the kernel, so that a change is seen when it happens (rtnetlink(7)).

Only that something happened counts; what it was is found out by looking. So a full buffer loses nothing.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

# include/uapi/linux/rtnetlink.h, enum rtnetlink_groups, as the bits of sockaddr_nl.nl_groups
_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE = 1 << 0, 1 << 4, 1 << 6, 1 << 8, 1 << 10
_GROUPS = _LINK | _IPV4_IFADDR | _IPV4_ROUTE | _IPV6_IFADDR | _IPV6_ROUTE
_DATAGRAM = 64  # nobody reads it, so the rest of one may be cut off
_MOST_AT_ONCE = 1000


@contextlib.contextmanager
def host_events(changed: asyncio.Event) -> Iterator[None]:
    """Set `changed` whenever links, addresses or routes of this network namespace change, for the length of a block."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.setblocking(False)
        sock.bind((0, _GROUPS))
        news = bytearray(_DATAGRAM)

        def drain() -> None:
            changed.set()
            for _ in range(_MOST_AT_ONCE):
                try:
                    sock.recv_into(news)
                except BlockingIOError:
                    return
                except OSError:  # ENOBUFS: more happened than fits
                    continue

        loop.add_reader(sock, drain)
        try:
            yield
        finally:
            loop.remove_reader(sock)
