"""Routes change ten thousand times a second while packets flow, and none is lost.

+--- node ---------------------+        +--- peer ------------+
| sender -> udplane0           |        |                     |
|   TunDevice -> engine ->     |        |                     |
|   Underlay 192.168.0.201 ====|==eth0==|== 192.168.0.202     |
+------------------------------+        +---------------------+
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest

from dataplane.engines.contract import EngineConfig
from dataplane.engines.registry import load_engine
from dataplane.forwarding.forwarder import Forwarder
from dataplane.forwarding.tun import TunDevice
from dataplane.forwarding.udp import DEFAULT_PORT, Underlay
from dataplane.lab.topology import Lab
from dataplane.packets.routes import RouteTable
from dataplane.packets.verdicts import Direction, Verdict
from tests.waiting import wait_until

UPDATES = 10_000
UPDATES_PER_SECOND = 10_000
BURST = 32
"""Packets on their way at once: far fewer than any queue holds, so nothing but the routes can lose one."""


@pytest.fixture
def sender_forwarder_receiver(
    tun_device: None, engine: str
) -> Iterator[tuple[socket.socket, Forwarder, socket.socket]]:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(versions=(4,)))
        node, peer = lab.add_node(), lab.add_node()
        with node.netns.entered():
            tun = stack.enter_context(TunDevice.open("udplane0"))
            underlay = stack.enter_context(Underlay.open(node.address(4)))
        node.netns.sysctl({"net/ipv6/conf/udplane0/disable_ipv6": 1})  # no packets of the kernel's own
        node.netns.ip(
            "addr add 10.254.1.0/32 dev udplane0",
            "link set udplane0 mtu 1472 up",
            "route add 10.254.0.0/16 dev udplane0 src 10.254.1.0",
        )
        config = EngineConfig(IPv4Network("10.254.1.0/24"), None, mtu=1472)
        forwarder = Forwarder(load_engine(engine, config), tun, underlay)
        stack.callback(forwarder.stop)
        sender = stack.enter_context(node.netns.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver = stack.enter_context(peer.netns.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind((str(peer.address(4)), DEFAULT_PORT))
        receiver.settimeout(5)
        yield sender, forwarder, receiver


def test_no_packet_is_lost(
    sender_forwarder_receiver: tuple[socket.socket, Forwarder, socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    sender, forwarder, receiver = sender_forwarder_receiver
    table = RouteTable()
    table.set("peer", IPv4Address("192.168.0.202"), DEFAULT_PORT, [ip_network("10.254.2.0/24")])
    forwarder.set_routes(table.snapshot())
    forwarder.start()
    churn = threading.Thread(target=update_routes, args=(table, forwarder))
    churn.start()
    start, sent = time.monotonic(), 0
    while churn.is_alive():
        numbers = range(sent, sent + BURST)
        for number in numbers:
            sender.sendto(number.to_bytes(4), ("10.254.2.5", 9))
        assert [int.from_bytes(receiver.recv(100)[28:]) for _ in numbers] == list(numbers)
        sent += BURST
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"\n{UPDATES / seconds:.0f} updates and {sent / seconds:.0f} packets a second, none lost")
    wait_until(
        lambda: forwarder.counters().packets[Direction.ENCAP][Verdict.FORWARDED] == sent, "all packets are counted"
    )
    assert forwarder.counters().drops(Direction.ENCAP) == {}
    assert forwarder.error is None


def update_routes(table: RouteTable, forwarder: Forwarder) -> None:
    """Let eight other peers come, move and go, and each time hand the routes over."""
    start = time.monotonic()
    for number in range(UPDATES):
        name, other = f"peer{number % 8}", number % 8 + 3
        if number // 8 % 3 == 2:
            table.remove(name)
        else:
            address = IPv4Address(f"192.168.0.{100 + number // 8 % 100}")
            table.set(name, address, DEFAULT_PORT, [ip_network(f"10.254.{other}.0/24")])
        forwarder.set_routes(table.snapshot())
        ahead = (number + 1) / UPDATES_PER_SECOND - (time.monotonic() - start)
        if ahead > 0:
            time.sleep(ahead)
