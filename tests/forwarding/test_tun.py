"""The TUN end, on real devices in a network namespace of its own:

+--- netns ------------------------------+
|  udplane0  10.5.1.0/32, MTU 1472  =====|===  TunDevice (this process)
|  route 10.5.0.0/16 dev udplane0        |
+----------------------------------------+
"""

import errno
import fcntl
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.errors import NodeError
from dataplane.forwarding import tun
from dataplane.forwarding.tun import TunDevice
from dataplane.kernel import netdev
from dataplane.lab.netns import Namespace
from dataplane.packets.batch import MAX_PACKET, PacketBatch
from dataplane.packets.verdicts import Egress, Verdict
from tests.conftest import needs_whole_system
from tests.waiting import wait_until

NAME = "udplane0"
TUNGETVNETHDRSZ = 0x800454D7


@pytest.fixture
def netns(tun_device: None) -> Iterator[Namespace]:
    namespace = Namespace.create(f"tun-{os.getpid()}")
    try:
        with namespace.entered():
            yield namespace
    finally:
        namespace.delete()


def bring_up(netns: Namespace) -> None:
    netns.sysctl({f"net/ipv6/conf/{NAME}/disable_ipv6": 1})  # no router solicitations of the kernel's own
    netns.ip(
        f"addr add 10.5.1.0/32 dev {NAME}",
        f"link set {NAME} mtu 1472 up",
        f"route add 10.5.0.0/16 dev {NAME} src 10.5.1.0",
    )


def datagram(text: bytes) -> bytes:
    """A UDP datagram as the kernel will take it in: to port 9, without a checksum."""
    from scapy.layers.inet import IP, UDP

    return bytes(IP(src="10.5.2.2", dst="10.5.1.0") / UDP(sport=9, dport=9, chksum=0) / text)


def test_packets_go_both_ways(netns: Namespace) -> None:
    with TunDevice.open(NAME) as device:
        bring_up(netns)
        batch = PacketBatch(slots=2, slot_size=MAX_PACKET)
        assert device.read_batch(batch) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("10.5.1.0", 9))
            for text in (b"one", b"two", b"three"):
                sock.sendto(text, ("10.5.2.2", 9))
            assert device.read_batch(batch) == 2  # no more than the batch has room for
            assert [bytes(batch.packet(i))[28:] for i in range(2)] == [b"one", b"two"]
            batch.clear()
            assert device.read_batch(batch) == 1
            batch.clear()
            for text in (b"in", b"not for the TUN"):
                batch.append(datagram(text))
            batch.egress[0] = Egress.TUN
            device.write_batch(batch)
            sock.settimeout(5)
            assert sock.recv(100) == b"in"
            assert list(batch.verdict) == [Verdict.FORWARDED, Verdict.FORWARDED]


def test_the_device_outlives_its_holder_and_is_taken_up_again(netns: Namespace) -> None:
    with TunDevice.open(NAME):
        bring_up(netns)
    shown = netns.run(["ip", "-brief", "address", "show", NAME]).stdout
    assert "10.5.1.0/32" in shown
    with TunDevice.open(NAME) as first, TunDevice.open(NAME) as second:  # two queues
        batch = PacketBatch(slots=8, slot_size=MAX_PACKET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

            def arrives() -> bool:
                sock.sendto(b"hello", ("10.5.2.2", 9))
                return bool(first.read_batch(batch) or second.read_batch(batch))

            # The kernel notices a little later that somebody holds the device again.
            wait_until(arrives, "a packet comes out of one of the queues")
        assert bytes(batch.packet(0)).endswith(b"hello")
        first.set_persistent(False)
    assert NAME not in netns.run(["ip", "-brief", "link"]).stdout


def test_a_device_that_is_down_refuses_packets(netns: Namespace) -> None:
    with TunDevice.open(NAME) as device:
        batch = PacketBatch(slots=2, slot_size=MAX_PACKET)
        batch.append(datagram(b"forwarded"))
        batch.append(datagram(b"an ICMP error"))
        batch.egress[0] = batch.egress[1] = Egress.TUN
        batch.verdict[1] = Verdict.NO_ROUTE
        device.write_batch(batch)
        assert list(batch.verdict) == [Verdict.WRITE_FAILED, Verdict.NO_ROUTE]


def test_a_device_that_is_gone_is_an_error(netns: Namespace) -> None:
    with TunDevice.open(NAME) as device:
        netns.ip(f"link delete {NAME}")
        batch = PacketBatch(slots=1, slot_size=MAX_PACKET)
        with pytest.raises(OSError):
            device.read_batch(batch)
        batch.append(datagram(b"nowhere to go"))
        batch.egress[0] = Egress.TUN
        with pytest.raises(OSError) as caught:
            device.write_batch(batch)
        assert caught.value.errno == errno.EBADFD


@pytest.mark.parametrize("name", ["", "sixteen_letters_", "a b", "a/b", "..", "a:1", "udp%d", "a\n"])
def test_a_bad_name_is_said(name: str) -> None:
    with pytest.raises(NodeError, match="cannot name a device"):
        TunDevice.open(name)


def test_a_device_of_another_kind_is_said(netns: Namespace) -> None:
    netns.ip(f"link add {NAME} type bridge")
    with pytest.raises(NodeError, match=f"ip link delete {NAME}"):
        TunDevice.open(NAME)


def test_no_tun_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "CLONE_DEVICE", "/dev/no-such-device")
    with pytest.raises(NodeError, match="modprobe tun"):
        TunDevice.open(NAME)


def test_missing_permission_is_said(netns: Namespace) -> None:
    """To a process without capabilities: it can open /dev/net/tun, but not use it."""
    program = "from dataplane.forwarding.tun import TunDevice; TunDevice.open('udplane0')"
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run([*command, sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert "NodeError: no permission" in done.stderr.splitlines()[-1]


def test_another_user_gets_no_queue(netns: Namespace) -> None:
    """The clone device is open to everybody on most distributions; the TUN has an owner."""
    needs_whole_system("a second user")
    clone = Path(tempfile.mkdtemp(dir="/dev")) / "tun"
    try:
        os.mknod(clone, stat.S_IFCHR | 0o666, Path(tun.CLONE_DEVICE).stat().st_rdev)
    except PermissionError:
        clone.parent.rmdir()
        pytest.skip("needs to make a device file: run as root of the machine")
    clone.parent.chmod(0o755)
    clone.chmod(0o666)
    with TunDevice.open(NAME):
        pass
    flags = tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_MULTI_QUEUE
    program = (
        "import fcntl, os, struct\n"
        f"fd = os.open({str(clone)!r}, os.O_RDWR)\n"
        f"fcntl.ioctl(fd, {tun.TUNSETIFF}, struct.pack('16sH22x', {NAME!r}.encode(), {flags}))\n"
    )
    command = [
        "setpriv",
        "--reuid=65534",
        "--bounding-set=-all",
        "--inh-caps=-all",
        sys.executable,
        "-I",
        "-c",
        program,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(clone.parent)
    assert "Operation not permitted" in done.stderr


def test_what_the_last_user_wished_is_forgotten(netns: Namespace) -> None:
    with TunDevice.open(NAME) as device:
        fcntl.ioctl(device.fileno(), tun.TUNSETVNETHDRSZ, struct.pack("=i", 12))
        fcntl.ioctl(device.fileno(), tun.TUNSETCARRIER, struct.pack("=i", 0))
    with TunDevice.open(NAME) as device:
        size = struct.unpack("=i", fcntl.ioctl(device.fileno(), TUNGETVNETHDRSZ, struct.pack("=i", 0)))
        assert size == (10,)
        netns.ip(f"link set {NAME} up")
        assert "NO-CARRIER" not in netns.run(["ip", "link", "show", NAME]).stdout
        assert netdev.tun_use(NAME) == netdev.TunUse(owner=os.geteuid(), queues=1)
        assert netdev.tun_holders(NAME) == [os.getpid()]
