"""The loads that a path is put under, and what is measured meanwhile.

Throughput is iperf3's, round trips are ping's (one every 2 ms), processor time is the nodes' own as the kernel
accounts it, which includes the network stack's work below their calls, and that of the whole machine.
"""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.pair import Pair
from bench.stats import percentile
from dataplane.lab.netns import LabError

Figures = dict[str, float]
"""What one load gave: name of the metric -> value."""

TICK = 1 / os.sysconf("SC_CLK_TCK")
PING_INTERVAL = 0.002
SERVER_PORT = 5201
SETTLE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of load; `run` puts it on a pair for some seconds."""

    name: str
    run: Callable[[Pair, float], Figures]


def tcp(streams: int, *options: str) -> Callable[[Pair, float], Figures]:
    """TCP from the first pod to the second; what arrived, and what it cost."""

    def run(pair: Pair, seconds: float) -> Figures:
        with _processor_time(pair) as used:
            end = _iperf3(pair, seconds, "-P", str(streams), *options)["end"]
        received = [end[key] for key in ("sum_received", "sum_received_bidir_reverse") if key in end]
        gigabytes = sum(part["bytes"] for part in received) / 1e9
        figures = {
            "Gb/s": sum(part["bits_per_second"] for part in received) / 1e9,
            "retransmits": float(end["sum_sent"].get("retransmits", 0)),
            "machine CPU s/GB": used["machine"] / gigabytes if gigabytes else 0.0,
        }
        if pair.daemons:
            figures["nodes CPU s/GB"] = used["nodes"] / gigabytes if gigabytes else 0.0
            figures["node RSS MB"] = max(_resident(daemon.pid) for daemon in pair.daemons) / 1e6
        return figures

    return run


def udp(payload: int) -> Callable[[Pair, float], Figures]:
    """UDP datagrams of `payload` bytes, as fast as iperf3 can send; the rate at which they arrive."""

    def run(pair: Pair, seconds: float) -> Figures:
        total = _iperf3(pair, seconds, "-u", "-b", "0", "-l", str(payload))["end"]["sum"]
        delivered = total["packets"] - total["lost_packets"]
        return {"kpps": delivered / total["seconds"] / 1e3, "lost %": 100 * total["lost_packets"] / total["packets"]}

    return run


def round_trips_idle(pair: Pair, seconds: float) -> Figures:
    """Round trips on an otherwise idle path."""
    return _ping(pair, seconds)


def round_trips_under_load(pair: Pair, seconds: float) -> Figures:
    """Round trips beside one TCP stream at full speed."""
    with _server(pair):
        load = subprocess.Popen(
            pair.pods[0].netns.command(_client(pair, seconds + 1)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            time.sleep(0.5)  # slow start is over; not a condition that a test waits for, but part of the load's shape
            return _ping(pair, seconds)
        finally:
            load.communicate(timeout=seconds + 20)


LOADS = (
    Load("TCP 1 stream", tcp(1)),
    Load("TCP 4 streams", tcp(4)),
    Load("TCP both ways", tcp(1, "--bidir")),
    Load("UDP 64 B", udp(64)),
    Load("UDP 1400 B", udp(1400)),
    Load("round trip idle", round_trips_idle),
    Load("round trip under TCP", round_trips_under_load),
)


def _client(pair: Pair, seconds: float, *options: str) -> list[str]:
    return ["iperf3", "-c", str(pair.target), "-p", str(SERVER_PORT), "-t", f"{seconds:.0f}", "-J", *options]


def _iperf3(pair: Pair, seconds: float, *options: str) -> dict[str, dict[str, dict[str, float]]]:
    with _server(pair):
        done = pair.pods[0].netns.run(_client(pair, seconds, *options), check=False, timeout=seconds + 30)
    report: dict[str, dict[str, dict[str, float]]] = json.loads(done.stdout or "{}")
    if "error" in report or "end" not in report:
        raise LabError(f"iperf3 {' '.join(options)}: {report.get('error') or done.stderr.strip() or 'no report'}")
    return report


@contextlib.contextmanager
def _server(pair: Pair) -> Iterator[None]:
    """An iperf3 server in the second pod, listening when the block begins and gone when it ends."""
    pod = pair.pods[1]
    command = ["iperf3", "-s", "-1", "-p", str(SERVER_PORT)]
    with Path(os.devnull).open("wb") as null:
        server = pod.netns.start(command, log=null)
    try:
        _await(lambda: f":{SERVER_PORT}" in pod.netns.run(["ss", "-Hltn"]).stdout, "iperf3 does not listen")
        yield
    finally:
        server.terminate()
        server.wait()


def _await(condition: Callable[[], bool], complaint: str) -> None:
    end = time.monotonic() + SETTLE_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise LabError(complaint)
        time.sleep(0.01)


def _ping(pair: Pair, seconds: float) -> Figures:
    """p50, p99 and p99.9 of round trips, in microseconds."""
    count = int(seconds / PING_INTERVAL)
    done = pair.pods[0].netns.run(
        ["ping", "-n", "-i", str(PING_INTERVAL), "-c", str(count), "-W", "1", str(pair.target)],
        check=False,
        timeout=10 * seconds + 30,
    )
    trips = [float(found) * 1e3 for found in re.findall(r"time=([\d.]+) ms", done.stdout)]
    if not trips:
        raise LabError(f"no answer to ping: {done.stderr.strip() or 'silence'}")
    shares = {"p50 us": 0.5, "p99 us": 0.99, "p99.9 us": 0.999}
    return {name: percentile(trips, share) for name, share in shares.items()} | {
        "lost %": 100 * (count - len(trips)) / count
    }


@contextlib.contextmanager
def _processor_time(pair: Pair) -> Iterator[dict[str, float]]:
    """Seconds of processor time that pass in the block: of the nodes' processes, and of the whole machine."""
    used: dict[str, float] = {}
    before = (_nodes_seconds(pair), _machine_seconds())
    yield used
    used["nodes"] = _nodes_seconds(pair) - before[0]
    used["machine"] = _machine_seconds() - before[1]


def _nodes_seconds(pair: Pair) -> float:
    """User and system time of the nodes' processes (proc(5), fields 14 and 15 of stat)."""
    total = 0
    for daemon in pair.daemons:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK


def _machine_seconds() -> float:
    """Time that the processors were not idle: all but idle and iowait of the first line of /proc/stat."""
    times = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) * TICK


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
