"""subnet.env: flannel's bytes, whole or not at all, and tolerance for whatever lies there."""

import stat
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError, NodeError
from dataplane.leases.lease import Subnets
from dataplane.node.subnet_file import SubnetFile, previous_subnets

IPV4 = SubnetFile(Subnets(IPv4Network("10.5.0.0/16")), Subnets(IPv4Network("10.5.52.0/24")), 1472, ip_masq=True)
DUAL = SubnetFile(
    Subnets(IPv4Network("10.5.0.0/16"), IPv6Network("fd00:5::/48")),
    Subnets(IPv4Network("10.5.52.0/24"), IPv6Network("fd00:5:0:34::/64")),
    1452,
    ip_masq=False,
    gso_max_size=63500,
)
IPV6 = SubnetFile(Subnets(ipv6=IPv6Network("fd00:5::/48")), Subnets(ipv6=IPv6Network("fd00:5:0:34::/64")), 1452, False)

GOLDEN = [
    (IPV4, "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"),
    (
        DUAL,
        (
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n"
            "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:34::1/64\n"
            "FLANNEL_MTU=1452\nFLANNEL_IPMASQ=false\nUDPLANE_GSO_MAX_SIZE=63500\n"
        ),
    ),
    (
        IPV6,
        (
            "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:34::1/64\n"
            "FLANNEL_MTU=1452\nFLANNEL_IPMASQ=false\n"
        ),
    ),
]


@pytest.mark.parametrize(("contents", "text"), GOLDEN)
def test_the_bytes_are_flannels_and_come_back(contents: SubnetFile, text: str) -> None:
    assert contents.to_text() == text
    assert SubnetFile.parse(text.encode()) == contents


def test_writing_makes_the_directory_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "flannel" / "subnet.env"
    IPV4.write(path)
    DUAL.write(path)
    assert path.read_text() == DUAL.to_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    IPV4.write(path)
    with path.open() as before:
        DUAL.write(path)
        assert before.read() == IPV4.to_text()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match=r"cannot write the subnet file .*: .*; choose another with --subnet-file"):
        IPV4.write(tmp_path / "file" / "subnet.env")
    (tmp_path / "directory").mkdir()
    with pytest.raises(NodeError):
        IPV4.write(tmp_path / "directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]


@pytest.mark.parametrize(
    ("data", "subnet"),
    [
        (b"FLANNEL_SUBNET=10.5.52.1/24", "10.5.52.0/24"),
        (b"# by hand\nexport FLANNEL_SUBNET='10.5.52.1/24'\r\n", "10.5.52.0/24"),
        (b"FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_SUBNET=10.5.2.1/24\n", "10.5.2.0/24"),
        (b"FLANNEL_SUBNET=10.5.52.1/24,10.6.0.1/24\n", "10.5.52.0/24"),
        (b"FLANNEL_SUBNET=garbage,10.6.0.1/24\n", "10.6.0.0/24"),
        (b"\xff\xfe\nFLANNEL_SUBNET=10.5.52.1/24\n\x00", "10.5.52.0/24"),
        (b"FLANNEL_SUBNET=10.5.52.1\n", None),
        (b"FLANNEL_SUBNET=10.5.52.1/2\xe0\xa5\xaa\n", None),
        (b"FLANNEL_SUBNET=\n", None),
        (b"", None),
    ],
)
def test_the_previous_subnet_is_read_from_any_bytes(tmp_path: Path, data: bytes, subnet: str | None) -> None:
    path = tmp_path / "subnet.env"
    path.write_bytes(data)
    assert previous_subnets(path) == (Subnets(IPv4Network(subnet)) if subnet else None)


def test_no_file_means_no_previous_subnet(tmp_path: Path) -> None:
    assert previous_subnets(tmp_path / "absent") is None
    assert previous_subnets(tmp_path) is None


@given(st.binary(max_size=300) | st.sampled_from([text for _, text in GOLDEN]).map(str.encode), st.binary(max_size=30))
def test_any_bytes_are_read_or_refused(head: bytes, tail: bytes) -> None:
    try:
        contents = SubnetFile.parse(head + tail)
    except ConfigError:
        return
    assert contents.mtu >= 0
