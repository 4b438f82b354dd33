"""A stand-in for firewalld on the system's D-Bus: zones and their sources, with firewalld's own errors.

    python firewalld_stand_in.py STATE

Every call is a line of the file STATE.calls; the sources of the zones, public and trusted, are in STATE, as JSON.
Real: the bus, its daemon, the messages. Source of names and errors: firewalld's D-Bus documentation, firewalld.dbus(5).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jeepney import HeaderFields, Message, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.fedoraproject.FirewallD1"
ERROR = f"{NAME}.Exception"


class RefusalError(Exception):
    """An error that firewalld answers with."""


class Firewall:
    """Zones, and the sources of each."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._zones: dict[str, list[str]] = {"public": [], "trusted": []}
        self._save()

    def _save(self) -> None:
        self._state.write_text(json.dumps(self._zones))

    def call(self, method: str, zone: str, source: str) -> tuple[str, tuple[object, ...]]:
        """The signature and the body of the answer."""
        with Path(f"{self._state}.calls").open("a") as calls:
            calls.write(f"{method} {zone} {source}\n")
        if zone not in self._zones:
            raise RefusalError(f"INVALID_ZONE: {zone}")
        sources = self._zones[zone]
        if method == "querySource":
            return "b", (source in sources,)
        if method == "addSource":
            if source in sources:
                raise RefusalError(f"ZONE_ALREADY_SET: {source}")
            if any(source in others for others in self._zones.values()):
                raise RefusalError(f"ZONE_CONFLICT: {source}")
            sources.append(source)
        elif source in sources:
            sources.remove(source)
        else:
            raise RefusalError(f"UNKNOWN_SOURCE: {source}")
        self._save()
        return "s", (zone,)


def answer(firewall: Firewall, message: Message) -> Message:
    """What firewalld would answer."""
    try:
        return new_method_return(message, *firewall.call(message.header.fields[HeaderFields.member], *message.body))
    except RefusalError as refusal:
        return new_error(message, ERROR, "s", (str(refusal),))


def main() -> None:
    """Serve until the bus goes."""
    firewall = Firewall(Path(sys.argv[1]))
    bus: DBusConnection = open_dbus_connection("SYSTEM")
    bus.send_and_get_reply(message_bus.RequestName(NAME))
    while True:
        message = bus.receive()
        if message.header.message_type is MessageType.method_call:
            bus.send(answer(firewall, message))


if __name__ == "__main__":
    main()
