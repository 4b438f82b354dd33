"""Every flag of flannel's release 0.28 in every spelling of Go, on the command line and as a variable.

The table is flannel's (main.go, where its flags are defined, and klog's three); it is written down here a second time,
so that a flag that is lost or gets another default is seen.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from dataplane.flanneld import goflags
from dataplane.flanneld.goflags import FlagError
from dataplane.flanneld.options import FlanneldOptions

TEXTS = {
    "etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379",
    "etcd-prefix": "/coreos.com/network",
    "etcd-keyfile": "",
    "etcd-certfile": "",
    "etcd-cafile": "",
    "etcd-username": "",
    "etcd-password": "",
    "iface-can-reach": "",
    "subnet-file": "/run/flannel/subnet.env",
    "public-ip": "",
    "public-ipv6": "",
    "kube-api-url": "",
    "kube-annotation-prefix": "flannel.alpha.coreos.com",
    "kubeconfig-file": "",
    "healthz-ip": "0.0.0.0",
    "net-config-path": "/etc/kube-flannel/net-conf.json",
}
NUMBERS = {"subnet-lease-renew-margin": 60, "healthz-port": 0, "iptables-resync": 5}
TRUTHS = {
    "ip-masq": False,
    "ip-masq-fully-random-disable": False,
    "kube-subnet-mgr": False,
    "version": False,
    "iptables-forward-rules": True,
    "ip-blackhole-route": False,
    "set-node-network-unavailable": True,
}
LISTS: dict[str, tuple[str, ...]] = {"iface": (), "iface-regex": ()}
KLOG = {"v": 0, "vmodule": "", "log_backtrace_at": ""}
ALL: dict[str, Any] = TEXTS | NUMBERS | TRUTHS | LISTS | KLOG

SAMPLES: Mapping[str, tuple[str, object]] = (
    dict.fromkeys(TEXTS, ("some text", "some text"))
    | dict.fromkeys(NUMBERS, ("0x10", 16))
    | dict.fromkeys(LISTS, ("eth.*", ("eth.*",)))
    | {"v": ("4", 4), "vmodule": ("main=2,kube*=4", "main=2,kube*=4"), "log_backtrace_at": ("main.go:7", "main.go:7")}
)
"""Flag -> a value as it is typed and as it is read."""


def read(*arguments: str) -> FlanneldOptions:
    values, rest = goflags.parse(FlanneldOptions, arguments)
    assert rest == []
    return FlanneldOptions(**values)


def value(options: FlanneldOptions, name: str) -> Any:
    return getattr(options, name.replace("-", "_"))


def test_there_is_every_flag_of_flannel_and_no_other() -> None:
    assert set(goflags.flags_of(FlanneldOptions)) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_default_is_flannels(name: str) -> None:
    assert value(FlanneldOptions(), name) == ALL[name]


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_flag_takes_its_value_in_either_way(name: str, dashes: str) -> None:
    text, wanted = SAMPLES[name]
    for arguments in ([f"{dashes}{name}={text}"], [f"{dashes}{name}", text]):
        assert value(read(*arguments), name) == wanted


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("name", TRUTHS)
def test_a_true_or_false_flag_stands_alone_or_takes_a_value_after_an_equals_sign(name: str, dashes: str) -> None:
    assert value(read(f"{dashes}{name}"), name) is True
    for text, wanted in (("true", True), ("1", True), ("T", True), ("false", False), ("0", False), ("F", False)):
        assert value(read(f"{dashes}{name}={text}"), name) is wanted
    assert goflags.parse(FlanneldOptions, [f"{dashes}{name}", "false"])[1] == ["false"]


@pytest.mark.parametrize("name", ALL)
def test_a_variable_stands_for_a_flag_that_is_not_given(name: str) -> None:
    text, wanted = SAMPLES.get(name, ("true", True))
    environment = {f"FLANNELD_{name.upper().replace('-', '_')}": text}
    values: dict[str, Any] = {}
    assert goflags.fill_from_environment(FlanneldOptions, values, environment, "FLANNELD") == []
    assert value(FlanneldOptions(**values), name) == wanted
    given_values = {name.replace("-", "_"): "given"}
    goflags.fill_from_environment(FlanneldOptions, given_values, environment, "FLANNELD")
    assert given_values == {name.replace("-", "_"): "given"}


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        *((f"--{name}=maybe", f'invalid boolean value "maybe" for -{name}: parse error') for name in TRUTHS),
        *((f"--{name}=ten", f'invalid value "ten" for flag -{name}: parse error') for name in NUMBERS),
        *((f"--{name}", f"flag needs an argument: -{name}") for name in SAMPLES),
        ("-v=x", 'invalid value "x" for flag -v: strconv.ParseInt: parsing "x": invalid syntax'),
        ("-v=3e9", 'invalid value "3e9" for flag -v: strconv.ParseInt: parsing "3e9": invalid syntax'),
        (
            f"-v={1 << 31}",
            f'invalid value "{1 << 31}" for flag -v: strconv.ParseInt: parsing "{1 << 31}": value out of range',
        ),
        ("-vmodule=x", 'invalid value "x" for flag -vmodule: syntax error: expect comma-separated list of filename=N'),
        ("-log_backtrace_at=x", 'invalid value "x" for flag -log_backtrace_at: syntax error: expect file.go:234'),
        ("-log-backtrace-at=main.go:7", "flag provided but not defined: -log-backtrace-at"),
        ("--ip_masq", "flag provided but not defined: -ip_masq"),
        ("--IP-MASQ", "flag provided but not defined: -IP-MASQ"),
        ("--networks=a", "flag provided but not defined: -networks"),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(argument: str, text: str) -> None:
    with pytest.raises(FlagError) as info:
        goflags.parse(FlanneldOptions, [argument])
    assert str(info.value) == text


def test_every_flag_has_help() -> None:
    assert all(option.metadata["help"] for option in fields(FlanneldOptions))
