"""The pcapng writer, read back by tshark and by scapy: two readers that we did not write."""

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader

from dataplane.capture.pcapng import INBOUND, LINKTYPE_ETHERNET, LINKTYPE_RAW, OUTBOUND, PcapngWriter

INNER = bytes(IP(src="10.5.1.2", dst="10.5.2.2") / UDP(sport=1, dport=2) / b"odd")
OUTER = bytes(Ether() / IP(src="192.168.0.1", dst="192.168.0.2") / UDP(sport=8285, dport=8285) / INNER)
TIME_NS = 1_795_487_624_123_456_789


def written() -> bytes:
    file = io.BytesIO()
    writer = PcapngWriter(file, "udplane test")
    tun = writer.add_interface("udplane0", LINKTYPE_RAW, "inner", "host 10.5.1.2")
    wire = writer.add_interface("eth0", LINKTYPE_ETHERNET)
    writer.write_packet(tun, TIME_NS, INNER, OUTBOUND)
    writer.write_packet(wire, TIME_NS + 1, memoryview(OUTER), INBOUND)
    writer.write_statistics(wire, TIME_NS + 2, 17)
    return file.getvalue()


def test_scapy_reads_the_packets() -> None:
    inner, outer = PcapNgReader(io.BytesIO(written())).read_all()
    assert (bytes(inner), bytes(outer)) == (INNER, OUTER)
    assert (inner.sniffed_on, outer.sniffed_on) == ("udplane0", "eth0")
    assert [round((packet.time - 1_795_487_624) * 10**9) for packet in (inner, outer)] == [123456789, 123456790]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark")
def test_tshark_reads_everything(tmp_path: Path) -> None:
    file = tmp_path / "capture.pcapng"
    file.write_bytes(written())
    columns = ["frame.interface_name", "frame.time_epoch", "frame.packet_flags_direction", "ip.src", "frame.len"]
    fields = [word for column in columns for word in ("-e", column)]
    done = subprocess.run(
        ["tshark", "-r", str(file), "-T", "fields", *fields], capture_output=True, text=True, check=True, timeout=60
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["udplane0", "eth0"]
    assert [row[1] for row in rows] == ["1795487624.123456789", "1795487624.123456790"]
    assert [int(row[2], 0) for row in rows] == [OUTBOUND, INBOUND]
    assert rows[0][3:] == ["10.5.1.2", str(len(INNER))]
