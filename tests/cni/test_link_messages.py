"""What plugins ask the kernel for, byte by byte, for links that this machine's kernel may not have.

The oracle is pyroute2's encoder. It leaves out the flag that an attribute holds attributes, which kernels take either
way, so that is masked. The same plugins are run on kernels that have these links by `./dev test --kernels`.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni.lib import links, podlink, rules, sublink
from cni.lib.netlink import HEADER, NLA_F_NESTED, NetlinkError, attribute_text, attribute_u32
from cni.lib.skel import Attachment
from cni.lib.veth import host_name
from tests.cni.plugin_calls import call, failure

ATTRIBUTE = Struct("=HH")
NETNS_FD = 7
MASTER_INDEX = 5
NAME = host_name("net1", Attachment("c1", "eth0"))
EOPNOTSUPP = 95
IPAM = {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}


class Recorder:
    """A netlink socket of a kernel that has no link yet, and can make none: it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, int]] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """What NetlinkSocket has: keep the message, and refuse it."""
        self.asked.append((kind, body, flags))
        raise NetlinkError(links.ENODEV if kind == links.RTM_GETLINK else EOPNOTSUPP)

    @property
    def made(self) -> bytes:
        """The body of the one message that was to make a link."""
        [body] = [body for kind, body, _ in self.asked if kind == links.RTM_NEWLINK]
        return body


class PodNetns:
    """A pod's namespace whose sockets are one Recorder."""

    fd = NETNS_FD

    def __init__(self, socket: Recorder) -> None:
        self._socket = socket

    def netlink(self) -> Recorder:
        """As Netns has it."""
        return self._socket


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Plugins that talk to a Recorder, of which they get a master with the index 5 and an MTU of 1500."""
    socket = Recorder()
    flags = attribute_u32(links.IFLA_MTU, 1500) + attribute_text(links.IFLA_IFNAME, "m0")
    master = links.Link(links.ifinfomsg(MASTER_INDEX) + flags)
    for module in ("dummy", "vlan", "ipvlan", "macvlan"):
        monkeypatch.setattr(f"cni.{module}.open_netns", lambda _path: PodNetns(socket))
    monkeypatch.setattr(sublink, "outside", lambda _path, _in_container: socket)
    monkeypatch.setattr(sublink, "find_master", lambda _socket, _name: master)
    monkeypatch.setattr(sublink, "look_up_master", lambda _socket, _name: master)
    monkeypatch.setattr(podlink.PodLink, "clear", lambda _link, _netns: None)
    return socket


def encoded(kind: str, *data: tuple[str, Any], on_master: bool = True, **more: Any) -> bytes:
    """The message in pyroute2's words."""
    message = ifinfmsg()
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", NAME), ("IFLA_NET_NS_FD", NETNS_FD)]
    attributes += [("IFLA_LINK", MASTER_INDEX)] if on_master else []
    attributes += [(f"IFLA_{key.upper()}", value) for key, value in more.items()]
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    message["attrs"] = [*attributes, ("IFLA_LINKINFO", {"attrs": info})]
    message.encode()
    return bytes(message.data)[HEADER.size :]


def without_nested_flags(body: bytes, start: int = links.IFINFOMSG.size, depth: int = 0) -> bytes:
    """The body with the flag cleared in its attributes, those of IFLA_LINKINFO included."""
    head, rest = body[:start], body[start:]
    out = b""
    while len(rest) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(rest)
        value = rest[ATTRIBUTE.size : length]
        if kind & NLA_F_NESTED and depth < 2:
            value = without_nested_flags(value, 0, depth + 1)
        padded = (length + 3) & ~3
        out += ATTRIBUTE.pack(length, kind & ~NLA_F_NESTED) + value + bytes(padded - length)
        rest = rest[padded:]
    return head + out


LINKS: dict[str, tuple[dict[str, Any], bytes]] = {
    "vlan": ({"master": "m0", "vlanId": 4094}, encoded("vlan", ("IFLA_VLAN_ID", 4094))),
    "vlan with an MTU": ({"master": "m0", "vlanId": 1, "mtu": 1400}, encoded("vlan", ("IFLA_VLAN_ID", 1), mtu=1400)),
    "ipvlan": ({"master": "m0"}, encoded("ipvlan", ("IFLA_IPVLAN_MODE", 0))),
    "ipvlan l3": ({"master": "m0", "mode": "l3", "mtu": 9000}, encoded("ipvlan", ("IFLA_IPVLAN_MODE", 1), mtu=9000)),
    "ipvlan l3s": ({"master": "m0", "mode": "l3s"}, encoded("ipvlan", ("IFLA_IPVLAN_MODE", 2))),
    "macvlan": (
        {"master": "m0", "mode": "vepa", "mac": "c2:c2:c2:c2:77:01"},
        encoded("macvlan", ("IFLA_MACVLAN_MODE", 2), address="c2:c2:c2:c2:77:01"),
    ),
    "dummy": ({}, encoded("dummy", on_master=False)),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_are_asked_for_as_pyroute2_does(name: str, kernel: Recorder) -> None:
    keys, wanted = LINKS[name]
    kind = name.split()[0]
    outcome = call(kind, "ADD", {"cniVersion": "1.0.0", "name": "net1", "type": kind, "ipam": IPAM, **keys})
    assert failure(outcome)["msg"] == f"failed to create {kind}: operation not supported"
    assert without_nested_flags(kernel.made) == wanted


def test_a_vrf_is_asked_for_as_pyroute2_does() -> None:
    socket = Recorder()
    with pytest.raises(NetlinkError):
        links.add_link(socket, "blue", "vrf", data=attribute_u32(1, 70000))  # type: ignore[arg-type]
    message = ifinfmsg()
    data = {"attrs": [("IFLA_VRF_TABLE", 70000)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vrf"), ("IFLA_INFO_DATA", data)]}
    message["attrs"] = [("IFLA_IFNAME", "blue"), ("IFLA_LINKINFO", info)]
    message.encode()
    assert without_nested_flags(socket.made) == bytes(message.data)[HEADER.size :]


@pytest.mark.parametrize(
    ("source", "text"), [(bytes([10, 9, 0, 2]), "10.9.0.2"), (b"\xfd" + bytes(14) + b"\1", "fd00::1")]
)
@pytest.mark.parametrize("table", [100, 70000])
def test_rules_are_asked_for_as_pyroute2_does(source: bytes, text: str, table: int) -> None:
    message = fibmsg()
    message["family"] = 2 if "." in text else 10
    message["src_len"] = len(source) * 8
    message["action"] = 1
    message["table"] = table if table < 256 else 0
    large = [("FRA_TABLE", table)] if table > 255 else []
    message["attrs"] = [("FRA_SRC", text), *large, ("FRA_PRIORITY", 32765)]
    message.encode()
    assert rules.Rule(source, table, 32765).message() == bytes(message.data)[HEADER.size :]
