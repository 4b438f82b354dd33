"""A node in numbers for Prometheus: `GET /metrics`, made from the status `document`.

The text format is version 0.0.4 of Prometheus (docs/instrumenting/exposition_formats.md there); names, units and labels
keep to its conventions: seconds, bytes, `_total` for what only grows, times as seconds since 1970. Labels have as many
values as there are verdicts, offloads, things on the host, and peers. To add a metric, add one `Family`; what a number
is read from has to be in the status document.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dataplane import clock
from dataplane.node.document import PeerDocument, StatusDocument

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]
"""Labels and value."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: all samples of a name."""

    name: str
    """Without the prefix `udplane_`."""
    kind: str
    """counter or gauge."""
    text: str
    samples: Callable[[StatusDocument], Iterable[Sample]]


def exposition(status: StatusDocument) -> str:
    """All metrics of a node in Prometheus's text format."""
    return "".join(line + "\n" for family in FAMILIES for line in _lines(family, status))


def _lines(family: Family, status: StatusDocument) -> Iterator[str]:
    name = f"udplane_{family.name}"
    samples = list(family.samples(status))
    if samples:
        yield f"# HELP {name} {family.text}"
        yield f"# TYPE {name} {family.kind}"
    for labels, value in samples:
        yield f"{name}{_braced(labels)} {value + 0}"  # a truth value becomes 0 or 1


def _braced(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _single(value: float | None, **labels: str) -> list[Sample]:
    """One sample, or none when nobody knows."""
    return [] if value is None else [(labels, value)]


def _info(status: StatusDocument) -> list[Sample]:
    backend = status["backend"]
    engine = backend.get("engine", "") if backend else ""
    return _single(1, version=status["version"], backend=backend["type"] if backend else "", engine=engine)


def _ago(seconds: float) -> float:
    """The time of day that long ago."""
    return round(clock.time_of_day(clock.now() - seconds), 1)


def _ready(status: StatusDocument) -> list[Sample]:
    return _single(status["phase"] == "ready" and not status["host"]["troubles"])


def _lease_held(status: StatusDocument) -> list[Sample]:
    return _single(status["lease"]["state"] == "held")


def _store_reachable(status: StatusDocument) -> list[Sample]:
    return _single(not status["store"]["trouble"])


def _guard_dropped(status: StatusDocument) -> list[Sample]:
    return _single(status["firewall"]["guard_dropped"])


def _start_time(status: StatusDocument) -> list[Sample]:
    return _single(_ago(status["uptime_seconds"]))


def _lease_expiry(status: StatusDocument) -> list[Sample]:
    expires = status["lease"]["expires"]
    return _single(datetime.fromisoformat(expires).timestamp() if expires else None)


def _peer_counts(status: StatusDocument) -> Iterator[Sample]:
    reachable = sum(peer["reachable"] for peer in status["peers"])
    yield {"state": "reachable"}, reachable
    yield {"state": "unreachable"}, len(status["peers"]) - reachable
    yield {"state": "refused"}, len(status["refused"])


def _packets(status: StatusDocument) -> Iterator[Sample]:
    for direction, way in _ways(status):
        yield {"direction": direction, "verdict": "forwarded"}, way["packets"]
        for reason, number in way["drops"].items():
            yield {"direction": direction, "verdict": reason}, number


def _octets(status: StatusDocument) -> Iterator[Sample]:
    for direction, way in _ways(status):
        yield {"direction": direction}, way["bytes"]


def _ways(status: StatusDocument) -> Iterator[tuple[str, Any]]:
    counters = status["counters"]
    if counters is not None:
        yield from (("encap", counters["encap"]), ("decap", counters["decap"]))


def _events(status: StatusDocument) -> Iterator[Sample]:
    counters = status["counters"]
    for event, number in (counters["events"] if counters is not None else {}).items():
        yield {"event": event}, number


def _offloads(status: StatusDocument) -> Iterator[Sample]:
    features = status["backend"].get("features", {}) if status["backend"] else {}
    for name, state in features.items():
        if name != "checksum":
            yield {"offload": name}, state == "on"


def _overruns(status: StatusDocument) -> Iterator[Sample]:
    backend = status["backend"]
    if backend is not None and "queue_overruns" in backend:
        yield {"queue": "tun"}, backend["queue_overruns"]
        yield {"queue": "udp"}, backend["receive_overruns"]


def _put_back(status: StatusDocument) -> Iterator[Sample]:
    put_back = status["host"]["put_back"]
    for wish in status["host"]["wishes"]:
        yield {"what": wish}, put_back.get(wish, 0)


def _troubles(status: StatusDocument) -> Iterator[Sample]:
    yield {"severity": "vital"}, len(status["host"]["troubles"])
    yield {"severity": "lesser"}, len(status["host"]["lesser_troubles"])


def _of_peers(unit: str) -> Callable[[StatusDocument], Iterator[Sample]]:
    """Both directions of each peer's packets or bytes, where they are counted."""

    def samples(status: StatusDocument) -> Iterator[Sample]:
        for peer in status["peers"]:
            counts: Mapping[str, Any] = peer
            for key, direction in (("tx", "transmit"), ("rx", "receive")):
                if counts.get(f"{key}_{unit}") is not None:
                    yield {**_peer_labels(peer), "direction": direction}, counts[f"{key}_{unit}"]

    return samples


def _peer_mtu(status: StatusDocument) -> Iterator[Sample]:
    for peer in status["peers"]:
        if "mtu" in peer:
            yield _peer_labels(peer), peer["mtu"]


def _peer_labels(peer: PeerDocument) -> dict[str, str]:
    return {"subnet": ",".join(peer["subnets"]), "address": peer.get("address", "")}


def _last_seen(status: StatusDocument) -> Iterator[Sample]:
    for peer in status["peers"]:
        age = peer.get("last_seen_seconds")
        if age is not None:
            yield _peer_labels(peer), _ago(age)


FAMILIES = (
    Family("info", "gauge", "Version, backend and engine; always 1.", _info),
    Family("ready", "gauge", "Whether the node has all that it needs to move packets.", _ready),
    Family("start_time_seconds", "gauge", "When the process started.", _start_time),
    Family("lease_held", "gauge", "Whether the store grants this node its subnets.", _lease_held),
    Family("lease_expiry_timestamp_seconds", "gauge", "When the lease runs out unless renewed.", _lease_expiry),
    Family("store_reachable", "gauge", "Whether the store answers and has a network config.", _store_reachable),
    Family("peers", "gauge", "Leases of other nodes by state; reachable ones are sent to.", _peer_counts),
    Family("packets_total", "counter", "Packets by what became of them.", _packets),
    Family("forwarded_bytes_total", "counter", "Bytes of inner packets forwarded.", _octets),
    Family("events_total", "counter", "Things counted beside the verdicts.", _events),
    Family("overruns_total", "counter", "Packets lost because a queue was full.", _overruns),
    Family("offload_active", "gauge", "Whether an offload is in use.", _offloads),
    Family("host_troubles", "gauge", "Things on the host that cannot be had.", _troubles),
    Family("host_put_back_total", "counter", "Things on the host put back after somebody changed them.", _put_back),
    Family("guard_dropped_packets_total", "counter", "Packets of this host that the guard dropped.", _guard_dropped),
    Family("peer_packets_total", "counter", "Packets to and from a peer.", _of_peers("packets")),
    Family("peer_bytes_total", "counter", "Bytes of inner packets to and from a peer.", _of_peers("bytes")),
    Family("peer_mtu_bytes", "gauge", "Largest inner packet to a peer.", _peer_mtu),
    Family("peer_last_receive_timestamp_seconds", "gauge", "When a peer's last packet came, if any did.", _last_seen),
)
"""All metrics, in the order of the answer."""
