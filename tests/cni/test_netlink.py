"""The netlink codec: what the kernel might send, and pyroute2's encoder and the real kernel as oracles."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni.lib import addresses, links
from cni.lib.ip import IPNet, parse_cidr
from cni.lib.netlink import (
    HEADER,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    nested,
    parse_attributes,
)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=20)), max_size=6))
def test_attributes_are_read_back(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert parse_attributes(data) == dict(pairs)


@given(st.binary(max_size=64))
def test_any_bytes_are_read(data: bytes) -> None:
    assert sum(map(len, parse_attributes(data).values())) <= len(data)


def test_a_link_message_as_pyroute2_reads_it() -> None:
    peer = links.ifinfomsg() + attribute_text(links.IFLA_IFNAME, "eth0") + attribute_u32(links.IFLA_NET_NS_FD, 7)
    info = nested(
        links.IFLA_LINKINFO,
        attribute_text(links.IFLA_INFO_KIND, "veth"),
        nested(links.IFLA_INFO_DATA, nested(links.VETH_INFO_PEER, peer)),
    )
    body = links.ifinfomsg(5, links.IFF_UP, links.IFF_UP) + attribute_text(links.IFLA_IFNAME, "veth0") + info
    message = ifinfmsg(HEADER.pack(HEADER.size + len(body), links.RTM_NEWLINK, 0, 1, 0) + body)
    message.decode()
    assert (message["index"], message["flags"], message["change"]) == (5, 1, 1)
    assert message.get_attr("IFLA_IFNAME") == "veth0"
    veth = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (veth.get_attr("IFLA_IFNAME"), veth.get_attr("IFLA_NET_NS_FD")) == ("eth0", 7)


class FakeKernel:
    """The far end of a netlink socket that answers each request with prepared messages."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.netlink = NetlinkSocket()
        self.netlink.close()
        self.netlink._socket = near
        self._sequence = 0

    def answer(self, *messages: tuple[int, int, bytes], sequence: int | None = None) -> None:
        """Queue one datagram with these (type, flags, body) for the next request."""
        self._sequence += sequence is None
        number = self._sequence if sequence is None else sequence
        packed = [HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body for kind, flags, body in messages]
        self.far.send(b"".join(packed))


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    fake = FakeKernel()
    yield fake
    fake.far.close()
    fake.netlink.close()


OK = (NLMSG_ERROR, 0, bytes(4))
DONE = (NLMSG_DONE, 0, bytes(4))


def test_an_interrupted_dump_is_asked_for_again(kernel: FakeKernel) -> None:
    kernel.answer((16, NLM_F_DUMP_INTR, b"torn"), DONE)
    kernel.answer((16, 0, b"good"), DONE)
    assert kernel.netlink.dump(links.RTM_GETLINK, b"") == [b"good"]


def test_dumps_that_never_settle_are_given_up(kernel: FakeKernel) -> None:
    for _ in range(10):
        kernel.answer((16, NLM_F_DUMP_INTR, b"torn"), DONE)
    with pytest.raises(NetlinkError, match="the kernel's tables changed under every attempt"):
        kernel.netlink.dump(links.RTM_GETLINK, b"")


def test_answers_to_an_older_request_are_passed_over(kernel: FakeKernel) -> None:
    kernel.answer((16, 0, b"late"), OK, sequence=99)
    kernel.answer((16, 0, b"mine"), OK)
    assert kernel.netlink.request(links.RTM_GETLINK, b"") == [b"mine"]


@pytest.mark.parametrize("capped", [NLM_F_CAPPED, 0])
def test_the_kernels_explanation_is_part_of_the_error(kernel: FakeKernel, capped: int) -> None:
    echo = HEADER.pack(HEADER.size + 8, 16, 0, 1, 0) + (b"" if capped else bytes(8))
    body = (-22).to_bytes(4, "little", signed=True) + echo + attribute_text(1, "Operation not wise")
    kernel.answer((NLMSG_ERROR, NLM_F_ACK_TLVS | capped, body))
    with pytest.raises(NetlinkError) as caught:
        kernel.netlink.request(links.RTM_NEWLINK, b"")
    assert str(caught.value) == "invalid argument (Operation not wise)"


def test_the_real_kernel_knows_the_loopback() -> None:
    with NetlinkSocket() as netlink:
        lo = links.find_link(netlink, "lo")
        assert lo is not None
        assert (lo.index, lo.mac) == (1, "00:00:00:00:00:00")
        assert links.find_link(netlink, "no-such-link") is None
        assert links.find_link(netlink, "a-name-that-is-too-long-for-any-link") is None
        with pytest.raises(LookupError, match=r"^Link not found$"):
            links.get_link(netlink, "no-such-link")


ROUTES: dict[str, Callable[[IPNet], addresses.KernelRoute]] = {
    "10.1.0.0/16": lambda dst: addresses.KernelRoute(dst, 3, gateway=bytes([10, 0, 0, 1])),
    "0.0.0.0/0": lambda dst: addresses.KernelRoute(dst, 3, source=bytes([10, 0, 0, 2]), scope=253),
    "fd00::/64": lambda dst: addresses.KernelRoute(dst, 3, gateway=bytes(15) + b"\1"),
}


@pytest.mark.parametrize("text", ROUTES)
@pytest.mark.parametrize("table", [254, 1000])
def test_routes_are_read_back(text: str, table: int) -> None:
    dst = parse_cidr(text)
    assert dst is not None
    route = ROUTES[text](dst)
    route.table, route.priority = table, 7
    again = addresses.KernelRoute.read(route.message())
    for name in ("dst", "index", "gateway", "source", "scope", "table", "priority"):
        assert getattr(again, name) == getattr(route, name), name


@given(st.binary(max_size=24))
def test_mac_addresses(raw: bytes) -> None:
    text = raw.decode("latin-1")
    mac = links.parse_mac(text)
    assert mac is None or links.parse_mac(links.format_mac(mac)) == mac
    assert links.parse_mac(links.format_mac(os.urandom(6))) is not None


def test_notations_of_mac_addresses() -> None:
    """Those that Go reads."""
    for text in ("c2:00:00:0a:00:01", "C2-00-00-0A-00-01", "c200.000a.0001"):
        assert links.parse_mac(text) == bytes.fromhex("c200000a0001")
    for text in ("c2-00:00-0a:00-01", "c2:00:00:0a:  :01", "c200:000a:0001", "c2.00.00.0a.00.01", "c20000.0a0001", ""):
        assert links.parse_mac(text) is None
    for raw in (bytes(range(8)), bytes(range(20))):  # EUI-64, InfiniBand
        for text in (raw.hex(":"), raw.hex("-"), raw.hex(".", -2)):
            assert links.parse_mac(text, links.HARDWARE_ADDRESS_BYTES) == raw
            assert links.parse_mac(text) is None
