"""A node's status laid out for people, and rates from samples of it."""

import copy
from typing import Any

import pytest

from dataplane.commands import stats
from dataplane.commands.peers import render_peers
from dataplane.commands.status import render_status
from dataplane.text import bit_rate, duration, size

PEER: Any = {
    "subnets": ["10.5.2.0/24"],
    "public_ip": "192.168.0.202",
    "node": "",
    "expires": None,
    "trouble": "",
    "refused": False,
    "reachable": True,
    "address": "192.168.0.202",
    "port": 8285,
    "mtu": 1472,
    "learned_mtu": None,
    "last_seen_seconds": None,
    "tx_packets": 10,
    "tx_bytes": 1000,
    "rx_packets": 0,
    "rx_bytes": 0,
}
COUNTERS: dict[str, Any] = {
    "encap": {"packets": 10, "bytes": 1000, "drops": {"no_route": 3, "ttl_exceeded": 0}},
    "decap": {"packets": 0, "bytes": 0, "drops": {"unknown_sender": 1}},
    "events": {"icmp_sent": 2, "icmp_limited": 0},
}
STATUS: Any = {
    "version": "0.1.0",
    "phase": "ready",
    "uptime_seconds": 7325.0,
    "network": {"ipv4": "10.5.0.0/16", "ipv6": None, "backend": "udp"},
    "lease": {"subnets": ["10.5.1.0/24"], "state": "held", "expires": "2026-11-25T02:33:42Z", "trouble": ""},
    "store": {"url": "sqlite:/x", "trouble": "", "ignored": {}},
    "backend": {
        "type": "udp",
        "engine": "python",
        "workers": 1,
        "features": {"tso": "off (old kernel)", "gso": "on", "gro": "on"},
        "device": "udplane0",
        "interface": "eth0",
        "address": "fd00::1",
        "port": 8285,
        "mtu": 1452,
        "queue_overruns": 0,
        "receive_overruns": 0,
    },
    "firewall": {
        "manager": "nftables",
        "masquerade": True,
        "forward": True,
        "guard": True,
        "guard_dropped": 0,
        "guard_lacking": "",
    },
    "host": {"wishes": ["net/ipv4/ip_forward"], "put_back": {}, "troubles": [], "lesser_troubles": []},
    "peers": [PEER],
    "refused": [],
    "counters": COUNTERS,
}


def test_a_healthy_node() -> None:
    text = render_status(STATUS)
    for words in (
        "ready, up 2 h 2 min",
        "10.5.1.0/24, held, until 2026-11-25T02:33:42Z",
        "udp, [fd00::1]:8285 on eth0",
        "gso on, gro on\n          tso off (old kernel)\n",
        "masquerade, forward and guard, held by nftables",
        "1 thing looked after",
        "3 dropped: no lease covers the destination (no_route)",
        "1 dropped: datagram from an address that holds no lease (unknown_sender)",
        "2 ICMP errors sent",
        "never",
    ):
        assert words in text
    assert "ttl_exceeded" not in text


def test_trouble_is_loud() -> None:
    status = copy.deepcopy(STATUS)
    status["store"] |= {"trouble": "it is down", "ignored": {"node n7": "no podCIDR is assigned to it"}}
    status["firewall"] |= {"guard_dropped": 3, "guard_lacking": "no fib here"}
    status["host"] |= {
        "troubles": ["nft refuses"],
        "lesser_troubles": ["no note"],
        "put_back": {"net/ipv4/ip_forward": 2},
    }
    status["lease"] |= {"state": "renewing", "trouble": "cannot renew"}
    status["backend"] |= {"receive_overruns": 5, "queue_overruns": 7}
    status["refused"] = [
        {
            "subnets": ["10.5.1.128/25"],
            "public_ip": "192.168.0.9",
            "refused": True,
            "trouble": "it overlaps 10.5.1.0/24",
        }
    ]
    text = render_status(status)
    for words in ("OUT OF REACH: it is down", "NOT IN PLACE: nft refuses", "NOT IN PLACE: no note", "cannot renew"):
        assert words in text
    assert "ignored: node n7: no podCIDR is assigned to it" in text
    for words in ("the guard is not whole: no fib here", "3 packets of pods", "net/ipv4/ip_forward put back 2 times"):
        assert words in text
    for words in ("5 datagrams lost", "7 packets lost"):
        assert words in text
    assert "refused: 10.5.1.128/25 of 192.168.0.9: it overlaps 10.5.1.0/24" in text


def test_a_store_without_a_network_config_is_not_called_out_of_reach() -> None:
    status = copy.deepcopy(STATUS) | {"network": None, "backend": None, "counters": None}
    status["store"] |= {"trouble": "there is none yet"}
    text = render_status(status)
    assert f"{status['store']['url']}, NO NETWORK CONFIG: there is none yet" in text
    assert "OUT OF REACH" not in text


def test_a_backend_whose_packets_the_kernel_moves() -> None:
    backend = {
        "type": "host-gw",
        "interface": "eth0",
        "address": "192.168.0.201",
        "port": None,
        "device": None,
        "mtu": 1500,
    }
    uncounted = dict.fromkeys(("last_seen_seconds", "tx_packets", "tx_bytes", "rx_packets", "rx_bytes"))
    text = render_status(STATUS | {"backend": backend, "counters": None, "peers": [PEER | {"port": None} | uncounted]})
    assert "host-gw, 192.168.0.201 on eth0, MTU 1500" in text
    assert "encap" not in text
    assert "engine" not in text


def test_a_node_that_waits_for_its_config() -> None:
    status = STATUS | {"phase": "waiting for the network config", "network": None, "backend": None, "counters": None}
    status |= {"lease": {"subnets": [], "state": "acquiring", "expires": None, "trouble": ""}, "peers": []}
    text = render_status(status)
    assert "waiting for the network config" in text
    assert "no peers yet" in text


def test_peers_of_another_family_and_none() -> None:
    unreachable = PEER | {"reachable": False, "trouble": "no IPv4 address, but the underlay is IPv4"}
    assert "no way: no IPv4 address" in render_peers([unreachable])
    assert render_peers([]) == "no peers yet\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.26, "0.3 s"), (42, "42 s"), (300, "5 min"), (3600 * 3 + 1250, "3 h 20 min"), (86400 * 2 + 4 * 3600, "2 d 4 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")]
)
def test_sizes(octets: float, text: str) -> None:
    assert size(octets) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 b/s"), (100, "800 b/s"), (1e6, "8.0 Mb/s"), (1.25e9, "10.0 Gb/s"), (1.25e12, "10000.0 Gb/s")],
)
def test_bit_rates(octets: float, text: str) -> None:
    assert bit_rate(octets) == text


def later() -> Any:
    """The status two seconds on: 20 packets more, and a second peer."""
    status = copy.deepcopy(STATUS)
    status["counters"]["encap"] |= {"packets": 30, "bytes": 21000, "drops": {"no_route": 7}}
    status["peers"][0] |= {"tx_bytes": 1000}
    status["peers"].append(PEER | {"subnets": ["10.5.3.0/24"], "tx_bytes": 20000})
    return status


def test_rates_are_differences_by_time() -> None:
    words: dict[str, str] = dict(word.split("=") for word in stats.render_line(STATUS, later(), 2.0).split())
    assert (words["encap_pps"], words["encap_bps"], words["encap_drops_ps"]) == ("10", "80000", "2")
    assert (words["decap_pps"], words["decap_bps"]) == ("0", "0")


def test_the_busiest_peer_is_first() -> None:
    lines = stats.render_screen(STATUS, later(), 2.0).splitlines()
    assert lines[-2].startswith("10.5.3.0/24")
    assert lines[-1].startswith("10.5.2.0/24")


def test_a_node_that_was_started_anew_counts_from_zero() -> None:
    words: dict[str, str] = dict(word.split("=") for word in stats.render_line(later(), STATUS, 1.0).split())
    assert words["encap_pps"] == "10"


def test_a_node_without_lease_has_no_rates() -> None:
    waiting = STATUS | {"counters": None, "peers": []}
    assert "encap_pps=0" in stats.render_line(waiting, waiting, 1.0)


def test_what_was_learned_of_a_path_is_shown_with_its_age() -> None:
    narrow = PEER | {"mtu": 1280, "learned_mtu": {"mtu": 524, "age_seconds": 200.0}}
    assert "1280 (path: 524, said 3 min ago)" in render_peers([narrow])
