"""Flags made from dataclasses: Go's ways of writing them, the environment, and what is refused."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from dataplane.errors import UsageError
from dataplane.flags import about, add_flags, boolean, bounded, normalize, read_flags
from dataplane.options import NodeOptions


@dataclass(frozen=True, slots=True)
class Sample:
    """Flags of every kind, and a field that is none."""

    name: str = field(default="nobody", metadata=about("who", flannel=True))
    ip_masq: bool = field(default=False, metadata=about("masquerade", boolean, flannel=True))
    forward: bool = field(default=True, metadata=about("forward", boolean))
    workers: int = field(default=1, metadata=about("how many", bounded(1, 8)))
    hidden: int = 7


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None, options: Any = Sample) -> Any:
    parser = argparse.ArgumentParser()
    add_flags(parser, options)
    return read_flags(parser.parse_args(normalize(arguments)), environment or {}, options)


def test_defaults_stand_where_nothing_is_said() -> None:
    assert read([]) == Sample()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ip-masq", "--name=x"],
        ["-ip-masq", "-name=x"],
        ["--ip-masq=true", "--name", "x"],
        ["-ip-masq=1", "-name", "x"],
    ],
)
def test_every_go_spelling_means_the_same(arguments: list[str]) -> None:
    assert read(arguments) == Sample(name="x", ip_masq=True)


def test_a_true_flag_can_be_turned_off() -> None:
    assert not read(["--forward=false"]).forward


def test_one_dash_becomes_two_but_letters_and_values_stay() -> None:
    assert normalize(["-w", "-", "--name=-x", "-name=y"]) == ["-w", "-", "--name=-x", "--name=y"]


def test_flag_beats_own_environment_beats_flannels() -> None:
    both = {"UDPLANE_NAME": "ours", "FLANNELD_NAME": "flannel's"}
    assert read(["--name", "flag"], both).name == "flag"
    assert read([], both).name == "ours"
    assert read([], {"FLANNELD_NAME": "flannel's"}).name == "flannel's"


def test_flannels_environment_is_not_read_for_our_own_flags() -> None:
    assert read([], {"FLANNELD_WORKERS": "4"}).workers == 1
    assert read([], {"UDPLANE_WORKERS": "4"}).workers == 4


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(UsageError, match="UDPLANE_WORKERS: '9' is not a whole number from 1 to 8"):
        read([], {"UDPLANE_WORKERS": "9"})


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--workers=1e1"], ["--workers", "１"], ["--ip-masq=maybe"], ["--hidden=1"]]
)
def test_wrong_values_are_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        read(arguments)
    assert exit_info.value.code == 2
    assert arguments[0].partition("=")[0] in capsys.readouterr().err


def test_the_public_address_is_of_either_family_but_not_of_one_link() -> None:
    assert read(["--public-ip=192.0.2.1"], options=NodeOptions).public_ip == IPv4Address("192.0.2.1")
    assert read(["--public-ip=2001:db8::1"], options=NodeOptions).public_ip == IPv6Address("2001:db8::1")
    with pytest.raises(UsageError, match="UDPLANE_PUBLIC_IP"):
        read([], {"UDPLANE_PUBLIC_IP": "fe80::1%eth0"}, NodeOptions)


def test_every_option_of_the_node_is_a_flag_with_help() -> None:
    for option in fields(NodeOptions):
        assert option.metadata["help"], option.name


def test_flags_that_flannel_has_keep_flannels_defaults() -> None:
    """flannel main.go, at the flags' definitions."""
    options = NodeOptions()
    assert str(options.subnet_file) == "/run/flannel/subnet.env"
    assert (options.subnet_lease_renew_margin, options.iptables_resync, options.healthz_port) == (60, 5, 0)
    assert options.iptables_forward_rules
    assert not options.ip_masq
