"""VLANs of a bridge's ports: what a configuration may say, and the messages that tell the kernel.

pyroute2 is the oracle of the messages; the bytes that are written out stand in if_bridge.h's structures.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni.lib import links
from cni.lib.bridge_vlans import (
    AF_BRIDGE,
    FILTERING,
    PVID,
    RANGE_BEGIN,
    RANGE_END,
    UNTAGGED,
    Vlans,
    entries,
    port_message,
    read_port,
    read_vlans,
    require_filtering,
    set_port,
)
from cni.lib.errors import CniError
from cni.lib.gojson import Fields
from cni.lib.netlink import HEADER, NLA_F_NESTED, attribute, attribute_text, list_attributes, nested
from cni.lib.skel import Call

PORT = 5
INDEX = "07000000 05000000 00000000 00000000"  # family AF_BRIDGE, index 5, no flags
ACCESS = INDEX + "0c001a80 08000200 0600 6400"  # PVID and untagged, VLAN 100
TRUNK = INDEX + "1c001a80 08000200 0600 0200 08000200 0800 0a00 08000200 1000 1400"  # PVID 2, then 10 to 20
NOT_1 = INDEX + "0c001a80 08000200 0000 0100"


def trunk(*items: dict[str, Any]) -> list[Fields]:
    return [Fields(item, "VlanTrunk") for item in items]


class Recorder:
    """Stands in for a netlink socket, and keeps what it is asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, str]] = []

    def request(self, kind: int, body: bytes) -> list[bytes]:
        self.requests.append((kind, body.hex()))
        return []


def bridge(**data: bytes) -> links.Link:
    """A bridge as the kernel describes it, with these attributes of its kind, by number."""
    kind_data = b"".join(attribute(int(name[1:]), value) for name, value in data.items())
    info = nested(
        links.IFLA_LINKINFO,
        attribute_text(links.IFLA_INFO_KIND, "bridge"),
        nested(links.IFLA_INFO_DATA, kind_data),
    )
    return links.Link(links.ifinfomsg(3) + attribute_text(links.IFLA_IFNAME, "cni0") + info)


FILTERS = bridge(_7=b"\1", _39=b"\1\0")


@pytest.mark.parametrize(
    ("vlans", "expected"),
    [
        (Vlans(100, [], keeps_default=True), [(links.RTM_SETLINK, ACCESS)]),
        (Vlans(100, [], keeps_default=False), [(links.RTM_DELLINK, NOT_1), (links.RTM_SETLINK, ACCESS)]),
        (Vlans(2, [2, *range(10, 21)], keeps_default=True), [(links.RTM_SETLINK, TRUNK)]),
        (Vlans(0, [], keeps_default=False), []),
    ],
)
def test_what_the_kernel_is_told(vlans: Vlans, expected: list[tuple[int, str]]) -> None:
    recorder = Recorder()
    set_port(recorder, PORT, FILTERS, vlans)  # type: ignore[arg-type]
    assert recorder.requests == [(kind, body.replace(" ", "")) for kind, body in expected]


def test_a_bridge_without_default_vlan_has_none_to_take_away() -> None:
    recorder = Recorder()
    set_port(recorder, PORT, bridge(_7=b"\1", _39=b"\0\0"), Vlans(100, [], keeps_default=False))  # type: ignore[arg-type]
    assert [kind for kind, _ in recorder.requests] == [links.RTM_SETLINK]


@given(st.integers(1, 1 << 20), st.lists(st.tuples(st.integers(1, 4094), st.integers(0, 0x1F)), min_size=1, max_size=9))
def test_the_message_is_pyroute2s(index: int, told: list[tuple[int, int]]) -> None:
    oracle = ifinfmsg()
    oracle["family"], oracle["index"] = AF_BRIDGE, index
    infos = [("IFLA_BRIDGE_VLAN_INFO", {"vid": vlan, "flags": flags}) for vlan, flags in told]
    oracle["attrs"] = [("IFLA_AF_SPEC", {"attrs": infos})]
    oracle.encode()
    ours = bytearray(port_message(index, told))
    kind = int.from_bytes(ours[18:20], "little")
    ours[18:20] = (kind & ~NLA_F_NESTED).to_bytes(2, "little")  # pyroute2 leaves this mark out
    assert bytes(ours) == bytes(oracle.data[HEADER.size :])


@given(st.dictionaries(st.integers(1, 4094), st.sampled_from([0, UNTAGGED, PVID | UNTAGGED])))
def test_a_ports_vlans_are_read_back(vlans: dict[int, int]) -> None:
    assert read_port(links.Link(port_message(PORT, list(vlans.items())))) == vlans


@given(st.sets(st.integers(1, 4094), max_size=60))
def test_a_trunk_is_told_in_runs(vlans: set[int]) -> None:
    native, *told = entries(Vlans(100, sorted(vlans), keeps_default=True))
    assert native == (100, PVID | UNTAGGED)
    expanded: list[int] = []
    for vlan, flags in told:
        expanded += range(expanded.pop(), vlan + 1) if flags == RANGE_END else [vlan]
        assert flags in (0, RANGE_BEGIN, RANGE_END)
    assert expanded == sorted(vlans - {100})


@pytest.mark.parametrize(("vlan", "trunk", "native"), [(0, [], 0), (0, [5], 1), (7, [], 7), (7, [5, 7], 7)])
def test_the_vlan_of_frames_without_a_tag(vlan: int, trunk: list[int], native: int) -> None:
    assert Vlans(vlan, trunk, keeps_default=False).native == native


@pytest.mark.parametrize(
    ("port", "right"),
    [
        ({7: PVID | UNTAGGED, 5: 0}, True),
        ({7: PVID | UNTAGGED, 5: 0, 1: UNTAGGED}, True),
        ({7: PVID | UNTAGGED}, False),
        ({7: UNTAGGED, 5: 0}, False),
        ({}, False),
    ],
)
def test_whether_a_port_is_in_its_vlans(port: dict[int, int], right: bool) -> None:
    assert Vlans(7, [5], keeps_default=False).are_on(port) == right


def test_all_vlans_fit_one_message() -> None:
    every_other = list(range(1, 4095, 2))
    told = entries(Vlans(0, every_other, keeps_default=True))
    ((_, spec),) = list_attributes(port_message(PORT, told)[links.IFINFOMSG.size :])
    assert len(list_attributes(spec)) == len(every_other)


def test_a_new_bridge_is_told_to_filter() -> None:
    assert FILTERING.hex() == "0500070001000000"


def test_a_bridge_that_filters_is_taken() -> None:
    require_filtering(FILTERS)


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (bridge(_7=b"\0", _39=b"\1\0"), "run: ip link set cni0 type bridge vlan_filtering 1"),
        (bridge(_7=b"\0"), "CONFIG_BRIDGE_VLAN_FILTERING"),
        (bridge(), "use a bridge for each network"),
        (bridge(_39=b""), "vlan_filtering 1"),
    ],
)
def test_a_bridge_that_would_not_keep_vlans_apart_is_refused(found: links.Link, remedy: str) -> None:
    with pytest.raises(CniError, match=remedy) as caught:
        require_filtering(found)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("items", "vlans"),
    [
        ([], []),
        ([{}], []),
        ([{"id": 7}], [7]),
        ([{"minID": 3, "maxID": 5}, {"id": 4}, {"ID": 1}], [1, 3, 4, 5]),
        ([{"minID": 4094, "maxID": 4094, "id": 1}], [1, 4094]),
    ],
)
def test_trunks(items: list[dict[str, Any]], vlans: list[int]) -> None:
    assert read_vlans(0, trunk(*items), True).trunk == vlans


@pytest.mark.parametrize(
    ("access", "items", "said"),
    [
        (4095, [], r"invalid VLAN ID 4095 \(must be between 0 and 4094\)"),
        (-1, [], "invalid VLAN ID -1"),
        (0, [{"id": 0}], "incorrect trunk id parameter"),
        (0, [{"id": 4095}], "incorrect trunk id parameter"),
        (0, [{"minID": 0, "maxID": 9}], "incorrect trunk minID parameter"),
        (0, [{"minID": 1, "maxID": 4095}], "incorrect trunk maxID parameter"),
        (0, [{"minID": 9, "maxID": 1, "id": 0}], "minID is greater than maxID in trunk parameter"),
        (0, [{"minID": 0}], "configured simultaneously, maxID is missing"),
        (0, [{"maxID": 0, "id": 0}], "configured simultaneously, minID is missing"),
    ],
)
def test_what_is_refused(access: int, items: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(CniError, match=said):
        read_vlans(access, trunk(*items), True)


def test_most_configurations_do_without_the_module() -> None:
    from cni.bridge import Config

    call = Call({})
    call.conf = {"vlan": 0, "preserveDefaultVlan": True, "vlanTrunk": None}
    assert Config(call).vlans is None
    call.conf = {"vlanTrunk": []}
    assert Config(call).vlans is not None


@pytest.mark.parametrize(
    "keys",
    [{"preserveDefaultVlan": "no"}, {"vlan": "5"}, {"vlan": 1.5}, {"vlanTrunk": 5}, {"vlanTrunk": [{"id": "5"}]}],
)
def test_wrong_types_are_told(keys: dict[str, Any]) -> None:
    from cni.bridge import Config

    call = Call({})
    call.conf = keys
    with pytest.raises(CniError, match="cannot unmarshal"):
        Config(call)
