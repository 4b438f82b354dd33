"""Checks of a host: what ip(8), sysctl(8), nft(8), ss(8) or any command shows at a place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds.base import Kind, Result, Room, Values, shortened

MISSING = "there is none"


def _link(room: Room, values: Values) -> Result:
    """A device and what `ip -d link` says of it."""
    found = _json(room, values["where"], ["ip", "-json", "-details", "link", "show", "dev", values["device"]])
    if not found:
        return Result(False, f"{values['where']} has no device {values['device']}", _wanted(values["is"]))
    link = found[0] | {"kind": found[0].get("linkinfo", {}).get("info_kind", "")}
    link["up"] = "UP" in link.get("flags", [])
    return _compared(values["is"], link)


def _address(room: Room, values: Values) -> Result:
    found = _json(room, values["where"], ["ip", "-json", "address", "show", "dev", values["device"]])
    addresses = [f"{a['local']}/{a['prefixlen']}" for link in found for a in link.get("addr_info", []) if "local" in a]
    return Result(values["is"] in addresses, ", ".join(addresses) or MISSING, values["is"])


def _route(room: Room, values: Values) -> Result:
    """What the kernel decides for a packet."""
    argv = ["ip", "-json", "route", "get", values["to"]]
    argv += ["from", values["from"], "iif", values["iif"]] if values["from"] else []
    done = room.place(values["where"]).namespace.run(argv, check=False)
    if done.returncode != 0:
        got = shortened(done.stderr.replace("RTNETLINK answers:", "the kernel says:"))
        return Result(not values["is"], got, _wanted(values["is"]) or "no route")
    return _compared(values["is"], json.loads(done.stdout)[0])


def _sysctl(room: Room, values: Values) -> Result:
    got = room.output(values["where"], ["sysctl", "-n", values["key"]]).strip()
    return Result(got == values["is"], got, values["is"])


def _rule(room: Room, values: Values) -> Result:
    """A rule of nftables that matches a pattern."""
    listing = room.output(values["where"], ["nft", "-a", "list", "ruleset"])
    line = next((line.strip() for line in listing.splitlines() if re.search(values["match"], line)), "")
    wanted = f"{'a' if values['there'] else 'no'} rule like {values['match']}"
    return Result(bool(line) == values["there"], line or MISSING, wanted)


def _listens(room: Room, values: Values) -> Result:
    flag = {"udp": "-u", "tcp": "-t"}[values["proto"]]
    listing = room.output(values["where"], ["ss", "-H", "-n", "-l", flag]).splitlines()
    sockets = [line.split()[3] for line in listing if len(line.split()) > 3]
    port = str(values["port"])
    return Result(
        any(socket.rpartition(":")[2] == port for socket in sockets), ", ".join(sockets) or MISSING, f"port {port}"
    )


def _command(room: Room, values: Values) -> Result:
    """Any command: its exit status, and a pattern in what it prints."""
    namespace = room.place(values["where"]).namespace
    done = namespace.run(["sh", "-c", values["run"]], check=False)
    output = done.stdout + done.stderr
    ok = (done.returncode == values["status"]) and bool(re.search(values["match"], output, re.MULTILINE))
    expected = f"status {values['status']}" + (f" and {values['match']}" if values["match"] else "")
    return Result(ok, f"status {done.returncode}: {shortened(output) or 'nothing printed'}", expected)


def _json(room: Room, where: str, argv: list[str]) -> list[dict[str, Any]]:
    """What ip(8) prints; nothing where it finds nothing."""
    done = room.place(where).namespace.run(argv, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    return [entry for entry in found if entry]


def _compared(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Result:
    """Whether what was found has all that is wanted."""
    got = {key: found.get(key, "") for key in wanted}
    ok = all(str(got[key]) == str(value) for key, value in wanted.items())
    return Result(ok, _wanted(got), _wanted(wanted))


def _wanted(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _read_link(section: Section) -> dict[str, Any]:
    return {**_where(section), "device": section.needed("device"), "is": section.plain("is")}


def _read_address(section: Section) -> dict[str, Any]:
    return {**_where(section), "device": section.needed("device"), "is": section.needed("is")}


def _read_route(section: Section) -> dict[str, Any]:
    ways = {"from": section.text("from"), "iif": section.text("iif")}
    return {**_where(section), "to": section.needed("to"), **ways, "is": section.plain("is")}


def _read_sysctl(section: Section) -> dict[str, Any]:
    return {**_where(section), "key": section.needed("key"), "is": section.needed("is")}


def _read_rule(section: Section) -> dict[str, Any]:
    return {**_where(section), "match": section.pattern("match"), "there": section.boolean("there", True)}


def _read_listens(section: Section) -> dict[str, Any]:
    port = section.whole_number("port", 0, 1, 65535)
    return {**_where(section), "proto": section.choice("proto", "udp", ("udp", "tcp")), "port": port}


def _read_command(section: Section) -> dict[str, Any]:
    status = section.whole_number("status", 0, 0, 255)
    return {**_where(section), "run": section.needed("run"), "status": status, "match": section.pattern("match")}


def _where(section: Section) -> dict[str, Any]:
    return {"where": section.needed("where")}


KINDS = {
    "link": Kind(
        "a device is there and is as said", _read_link, _link, lambda v: f"{v['where']}: the device {v['device']}"
    ),
    "address": Kind(
        "a device has an address", _read_address, _address, lambda v: f"{v['where']}: the address of {v['device']}"
    ),
    "route": Kind(
        "what the kernel decides for a packet", _read_route, _route, lambda v: f"{v['where']}: the way to {v['to']}"
    ),
    "sysctl": Kind("a kernel parameter", _read_sysctl, _sysctl, lambda v: f"{v['where']}: {v['key']}"),
    "rule": Kind("a rule of nftables is there, or is not", _read_rule, _rule, lambda v: f"{v['where']}: the rules"),
    "listens": Kind(
        "a socket is open", _read_listens, _listens, lambda v: f"{v['where']}: {v['proto']} port {v['port']} is open"
    ),
    "command": Kind("what any command says", _read_command, _command, lambda v: f"{v['where']}: {v['run']}"),
}
