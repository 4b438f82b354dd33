"""flannel's flags in the node's terms: which store, with what, and how the node is run."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import ConfigError, UsageError
from dataplane.flanneld.options import FlanneldOptions
from dataplane.flanneld.translate import (
    health_address,
    node_options,
    public_address,
    store_options,
    store_url,
    without_effect,
)
from dataplane.options import NodeOptions
from dataplane.stores.base import StoreOptions
from dataplane.stores.etcd import EtcdStore
from dataplane.stores.registry import open_store

TLS = {"etcd_cafile": "/ca.pem", "etcd_certfile": "/cert.pem", "etcd_keyfile": "/key.pem"}


def flannel(**flags: Any) -> FlanneldOptions:
    return FlanneldOptions(**flags)


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "etcd://127.0.0.1:4001,127.0.0.1:2379"),
        ({"etcd_endpoints": "http://a:1,http://b:2/"}, "etcd://a:1,b:2"),
        ({"etcd_endpoints": "https://a:1, https://[fd00::1]:2"}, "etcds://a:1,[fd00::1]:2"),
        ({"etcd_endpoints": "a:1"}, "etcd://a:1"),
        ({"etcd_endpoints": "a:1"} | TLS, "etcds://a:1"),
        ({"etcd_endpoints": "http://a:1"} | TLS, "etcd://a:1"),
        ({"kube_subnet_mgr": True}, "kube:"),
        ({"kube_subnet_mgr": True, "kube_api_url": "https://api:6443"}, "kube:https://api:6443"),
    ],
)
def test_the_store(flags: dict[str, Any], url: str) -> None:
    assert store_url(flannel(**flags)) == url
    assert node_options(flannel(**flags), {}).store == url


@pytest.mark.parametrize("endpoints", ["http://a:1,https://b:2", "unix:///run/etcd.sock", "ftp://a:1"])
def test_endpoints_that_cannot_be_one_store(endpoints: str) -> None:
    with pytest.raises(ConfigError, match="give all with http:// or all with https://"):
        store_url(flannel(etcd_endpoints=endpoints))


@pytest.mark.parametrize("endpoints", ["", ",", "a b", "http://", "http://a:70000", "http://a:1,,"])
def test_endpoints_that_are_none_are_refused_by_the_store(endpoints: str) -> None:
    options = flannel(etcd_endpoints=endpoints)
    with pytest.raises(UsageError, match="is no etcd endpoint"):
        open_store(store_url(options), store_options(options))


def test_flannels_default_endpoints_make_a_store() -> None:
    assert isinstance(open_store(store_url(flannel()), store_options(flannel())), EtcdStore)


def test_without_flags_the_store_is_used_as_by_default() -> None:
    assert store_options(flannel()) == StoreOptions()


def test_what_the_store_is_told() -> None:
    told = {"etcd_prefix": "/p", "etcd_username": "u", "etcd_password": "s", "etcd_endpoints": "https://a:1"} | TLS
    options = store_options(flannel(**told))
    assert {name: getattr(options, name) for name in told if name != "etcd_endpoints"} == {
        name: text for name, text in told.items() if name != "etcd_endpoints"
    }
    kube = {"kubeconfig_file": "/k", "kube_annotation_prefix": "a.b", "net_config_path": "/n"}
    options = store_options(flannel(kube_subnet_mgr=True, set_node_network_unavailable=False, **kube))
    assert {name: getattr(options, name) for name in kube} == kube
    assert not options.set_node_network_unavailable


def test_tls_files_mean_nothing_where_there_is_no_tls() -> None:
    assert store_options(flannel(etcd_endpoints="http://a:1", **TLS)).etcd_cafile == ""


def test_what_the_node_is_told() -> None:
    flags = {"ip_masq": True, "ip_masq_fully_random_disable": True, "iptables_forward_rules": False}
    options = node_options(flannel(subnet_file="/s", subnet_lease_renew_margin=7, iptables_resync=9, **flags), {})
    assert {name: getattr(options, name) for name in flags} == flags
    assert (options.subnet_file, options.subnet_lease_renew_margin, options.iptables_resync) == (Path("/s"), 7, 9)


def test_what_flannel_has_no_flag_for_is_as_flannel_does_it() -> None:
    options, ours = node_options(flannel(), {}), NodeOptions()
    assert (options.tun, options.log_format) == ("flannel0", "klog")
    # The face answers health checks itself, and the network config is the store's in etcd's case, its file's in kube's.
    assert (options.healthz_port, options.net_config_path) == (0, "")
    assert (options.engine, options.workers, options.run_dir) == (ours.engine, ours.workers, ours.run_dir)


def test_what_flannel_has_no_flag_for_is_read_from_the_nodes_own_variables() -> None:
    variables = {
        "UDPLANE_ENGINE": "python",
        "UDPLANE_TUN": "tun7",
        "FLANNELD_IP_MASQ": "true",
        "UDPLANE_IP_MASQ": "true",
    }
    options = node_options(flannel(), variables)
    assert (options.engine, options.tun, options.ip_masq) == ("python", "tun7", False)
    with pytest.raises(UsageError, match="UDPLANE_WORKERS"):
        node_options(flannel(), {"UDPLANE_WORKERS": "many"})


@pytest.mark.parametrize("margin", [0, -1, 1440, 1 << 40])
def test_flannels_bounds_of_the_renewal(margin: int) -> None:
    with pytest.raises(ConfigError, match="Invalid subnet-lease-renew-margin option, out of acceptable range"):
        node_options(flannel(subnet_lease_renew_margin=margin), {})


def test_rules_are_looked_after_no_more_than_once_a_second() -> None:
    assert node_options(flannel(iptables_resync=0), {}).iptables_resync == 1


def test_public_addresses() -> None:
    both = flannel(public_ip="192.0.2.1", public_ipv6="2001:db8::1")
    assert [public_address(both, version) for version in (4, 6)] == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert public_address(flannel(), 4) is None
    for wrong in (flannel(public_ip="2001:db8::1"), flannel(public_ip="host")):
        with pytest.raises(ConfigError, match=r"--public-ip: .*; give the address at which"):
            public_address(wrong, 4)


def test_where_health_checks_are_answered() -> None:
    assert health_address(flannel()) is None
    assert health_address(flannel(healthz_port=-1)) is None
    assert health_address(flannel(healthz_port=81)) == (ip_address("0.0.0.0"), 81)
    assert health_address(flannel(healthz_port=81, healthz_ip="::1")) == (ip_address("::1"), 81)
    for wrong, flag in (({"healthz_ip": "localhost"}, "--healthz-ip"), ({"healthz_port": 65536}, "--healthz-port")):
        with pytest.raises(ConfigError, match=flag):
            health_address(flannel(**{"healthz_port": 81} | wrong))


def test_what_means_nothing_is_named() -> None:
    assert without_effect(flannel(), {"PATH": "/bin"}) == []
    options = flannel(ip_blackhole_route=True, vmodule="a=1", v=2, log_backtrace_at="a.go:1")
    assert without_effect(options, {"EVENT_QUEUE_DEPTH": "1"}) == [
        "-ip-blackhole-route",
        "-v",
        "-vmodule",
        "-log_backtrace_at",
        "EVENT_QUEUE_DEPTH",
    ]
