"""The metrics: read back by Prometheus's own parser, and the page about them."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dataplane.node.metrics import FAMILIES, exposition
from dataplane.packets.verdicts import Event, Verdict

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
CONVENTION = re.compile(r"[a-z_]+(_total|_seconds|_bytes|_active|_held|_reachable|_troubles)$|info$|ready$|peers$")


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would store."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(text: str, name: str, **labels: str) -> float:
    return samples(text)[f"udplane_{name}", frozenset(labels.items())]


def direction() -> dict[str, Any]:
    drops = {verdict.name.lower(): 7 for verdict in Verdict if verdict != Verdict.FORWARDED}
    return {"packets": 1 << 60, "bytes": (1 << 64) - 1, "drops": drops}


@pytest.fixture
def status() -> Any:
    lease = {"subnets": ["10.5.1.0/24"], "public_ip": "192.168.0.201", "node": "", "expires": "2026-11-28T09:00:00Z"}
    traffic = {"tx_packets": 1, "tx_bytes": 2, "rx_packets": 3, "rx_bytes": 4}
    peer = lease | traffic | {"reachable": True, "address": "192.168.0.202", "mtu": 1472, "last_seen_seconds": 2.5}
    backend = {"type": "udp", "engine": "native", "features": {"tso": "on", "gso": "off (EIO)", "checksum": "avx2"}}
    return {
        "version": "1.0",
        "phase": "ready",
        "uptime_seconds": 5.0,
        "lease": lease | {"state": "held", "trouble": ""},
        "store": {"trouble": ""},
        "backend": backend | {"queue_overruns": 1, "receive_overruns": 2},
        "firewall": {"guard_dropped": 3},
        "host": {"wishes": ["address a", "rule b"], "put_back": {"rule b": 4}, "troubles": [], "lesser_troubles": [""]},
        "peers": [peer],
        "refused": [lease],
        "counters": {"encap": direction(), "decap": direction(), "events": {event.name.lower(): 1 for event in Event}},
    }


def test_prometheus_reads_all_of_it(status: Any) -> None:
    text = exposition(status)
    assert {family.name for family in text_string_to_metric_families(text)} == {
        "udplane_" + family.name.removesuffix("_total") for family in FAMILIES
    }
    assert sample(text, "info", version="1.0", backend="udp", engine="native") == 1
    assert sample(text, "packets_total", direction="decap", verdict="unknown_sender") == 7
    assert sample(text, "forwarded_bytes_total", direction="encap") == (1 << 64) - 1
    assert [sample(text, "offload_active", offload=name) for name in ("tso", "gso")] == [1, 0]
    assert sample(text, "lease_expiry_timestamp_seconds") == 1795856400
    assert sample(text, "peer_bytes_total", subnet="10.5.1.0/24", address="192.168.0.202", direction="receive") == 4
    assert sample(text, "host_put_back_total", what="rule b") == 4
    assert sample(text, "peers", state="refused") == 1


def test_a_node_that_knows_nothing_yet_says_what_it_knows(status: Any) -> None:
    lease: Any = {"subnets": [], "expires": None, "state": "acquiring"}
    unknown: Any = {"phase": "starting", "backend": None, "counters": None, "peers": [], "refused": [], "lease": lease}
    text = exposition(status | unknown)
    assert (sample(text, "ready"), sample(text, "lease_held")) == (0, 0)
    assert "udplane_packets_total" not in text


def test_any_text_in_a_label_comes_through(status: Any) -> None:
    name = 'a "quoted" \\ name\nand {more}='
    status["host"]["wishes"] = [name]
    assert sample(exposition(status), "host_put_back_total", what=name) == 0


def test_names_keep_to_the_conventions() -> None:
    for family in FAMILIES:
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
        assert CONVENTION.match(family.name), family.name


def test_the_page_names_every_metric() -> None:
    assert re.findall(r"^\| `udplane_(\w+)", PAGE.read_text(), re.MULTILINE) == [family.name for family in FAMILIES]
