"""What tshark reads in a capture file of a walk, beside what the walk says: bytes, points, comments and headers."""

import json
import shutil
import subprocess
from pathlib import Path

from dataplane.lab import walk_pcap
from dataplane.lab.dissect import Layer
from dataplane.lab.recording import Recording, Step

MISSING = None if shutil.which("tshark") else "tshark is not installed: its reading cannot be compared"

LUA = Path(walk_pcap.__file__).parent / "wireshark" / "udplane.lua"

FIELDS = {
    "eth.src": ("Ethernet", "from"),
    "eth.dst": ("Ethernet", "to"),
    "ip.src": ("IPv4", "from"),
    "ip.dst": ("IPv4", "to"),
    "ip.ttl": ("IPv4", "ttl"),
    "ip.len": ("IPv4", "length"),
    "ip.checksum": ("IPv4", "checksum"),
    "ipv6.src": ("IPv6", "from"),
    "ipv6.dst": ("IPv6", "to"),
    "ipv6.hlim": ("IPv6", "hop limit"),
    "ipv6.plen": ("IPv6", "payload length"),
    "udp.srcport": ("UDP", "from"),
    "udp.dstport": ("UDP", "to"),
    "tcp.srcport": ("TCP", "from"),
    "tcp.seq_raw": ("TCP", "seq"),
    "tcp.ack_raw": ("TCP", "ack"),
    "tcp.checksum": ("TCP", "checksum"),
    "icmp.seq": ("ICMP", "seq"),
    "icmp.checksum": ("ICMP", "checksum"),
    "icmpv6.echo.sequence_number": ("ICMPv6", "seq"),
    "vxlan.vni": ("VXLAN", "vni"),
}
"""A field's name there, and its layer and key here."""


def compare(recording: Recording, file: Path) -> None:
    """Fail where tshark reads something else than the recording has."""
    written = walk_pcap.write(recording, file)
    (walk,) = recording.walks
    steps = [(n, step) for n, step in enumerate(walk.steps, 1) if step.packet.link in walk_pcap.LINKTYPES]
    assert len(steps) == written
    packets = json.loads(_run(file, "-T", "jsonraw"))
    names = ["frame.interface_name", "frame.comment", *FIELDS]
    rows = _run(file, "-T", "fields", *(word for name in names for word in ("-e", name)), "-E", "aggregator=;")
    for (number, step), packet, row in zip(steps, packets, rows.rstrip("\n").split("\n"), strict=True):
        assert packet["_source"]["layers"]["frame_raw"][0] == step.packet.data.hex()
        point, comment, *values = row.split("\t")
        assert point == walk_pcap.point(step)
        assert comment.replace("\\n", "\n") == walk_pcap.comment(number, step).replace("\\", "\\\\")
        for (name, (layer, key)), value in zip(FIELDS.items(), values, strict=True):
            assert value.split(";") == (_texts(step, layer, key) or [""]), (name, number, step.say)


def _run(file: Path, *arguments: str) -> str:
    command = ["tshark", "-r", str(file), "-X", f"lua_script:{LUA}", "-d", "udp.port==8472,vxlan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def _texts(step: Step, name: str, key: str) -> list[str]:
    layers: list[Layer] = step.packet.layers
    return [layer.get(key) for layer in layers if layer.name == name and layer.get(key)]
