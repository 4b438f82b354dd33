"""firewalld, asked over the system's D-Bus: which addresses belong to a zone (org.fedoraproject.FirewallD1.zone).

busctl(1) makes the calls: it comes with systemd, as firewalld practically does. What is added this way lasts until
firewalld is told to reload or restarts.
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.ip import format_ip
from cni.lib.lean import os
from cni.lib.process import Finished, find_program, run

SOCKET = "/run/dbus/system_bus_socket"
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
NAME = "org.fedoraproject.FirewallD1"
ZONE = (NAME, "/org/fedoraproject/FirewallD1", f"{NAME}.zone")
CALL_SECONDS = 20
PRESENT = "ZONE_ALREADY_SET"
ABSENT = ("UNKNOWN_SOURCE", "INVALID_ZONE")
NOT_RUNNING = ("ServiceUnknown", "NameHasNoOwner", "was not provided by any .service files", "Failed to connect to bus")


def is_running() -> bool:
    """Whether there is a firewalld to ask. Without its program or a bus no other program is run to know."""
    if find_program("firewalld") is None or not os.access(SOCKET, os.F_OK):
        return False
    return _call(BUS, "GetNameOwner", "s", NAME).status == 0


def add(zone: str, ips: list[bytes]) -> None:
    """Have the zone apply to what comes from these addresses. Raises CniError."""
    for source in map(source_of, ips):
        done = _call(ZONE, "addSource", "ss", zone, source)
        if done.status != 0 and PRESENT not in _said(done):
            raise CniError(f"failed to add the address {source} to {zone} zone: {_said(done)}")


def remove(zone: str, ips: list[bytes]) -> None:
    """Undo `add`. What the zone does not have is no error.

    A firewalld that does not run has nothing, nor has one that nobody can ask. Raises CniError.
    """
    if find_program("busctl") is None:
        return
    for source in map(source_of, ips):
        done = _call(ZONE, "removeSource", "ss", zone, source)
        said = _said(done)
        if done.status != 0 and not any(text in said for text in ABSENT + NOT_RUNNING):
            raise CniError(f"failed to remove the address {source} from {zone} zone: {said}")


def check(zone: str, ips: list[bytes]) -> None:
    """The zone has to apply to what comes from these addresses. Raises CniError."""
    for source in map(source_of, ips):
        done = _call(ZONE, "querySource", "ss", zone, source)
        if done.output.split() != [b"b", b"true"]:
            raise CniError(f"failed to find the address {source} in {zone} zone")


def source_of(ip: bytes) -> str:
    """An address as firewalld calls it: `10.9.0.2/32`."""
    return f"{format_ip(ip)}/{len(ip) * 8}"


def _call(target: tuple[str, str, str], method: str, signature: str, *arguments: str) -> Finished:
    busctl = find_program("busctl")
    if busctl is None:
        raise CniError("firewalld is reached by busctl, which is not installed: it comes with systemd")
    options = ("--system", f"--timeout={CALL_SECONDS}")
    return run([busctl, *options, "call", *target, method, signature, "--", *arguments])


def _said(done: Finished) -> str:
    return done.errors.decode("utf-8", "replace").strip().replace("\n", " ")
