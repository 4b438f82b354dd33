"""`udplane lab capture`: what passes the devices of a place, as pcapng."""

import argparse
import json
import shlex
import subprocess
import sys
from importlib import resources

from dataplane.capture.capture import CaptureRequest, Recorder, Tap, capture_to
from dataplane.errors import UsageError
from dataplane.flags import count, seconds
from dataplane.lab import inside
from dataplane.lab.dissect import OVERLAY_PORT
from dataplane.lab.netns import LabError
from dataplane.lab.verbs.common import add_lab

HELP = "what passes the devices of a place, as pcapng for Wireshark"

LUA = "wireshark/udplane.lua"
"""Wireshark's dissector for datagrams of the overlay, beside this package's modules."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, where to, how much."""
    add_lab(parser)
    parser.add_argument("where", nargs="?", metavar="WHERE", help="a pod, node, host, router or wire of the lab")
    parser.add_argument("device", nargs="?", metavar="DEVICE", help="one device (default: all that are up, but lo)")
    parser.add_argument("-w", dest="output", metavar="FILE", help="where to write, - for stdout")
    parser.add_argument("--count", type=count, metavar="N", help="stop after so many packets")
    parser.add_argument("--seconds", type=seconds, metavar="SECONDS", help="stop after so long")
    parser.add_argument("--lua", action="store_true", help="only say how Wireshark shows the packets in the tunnel")


def run(arguments: argparse.Namespace) -> int:
    """Capture until there is enough or Ctrl-C."""
    if arguments.lua:
        print(_how_to_read("FILE"))
        return 0
    if not arguments.where or not arguments.output:
        raise UsageError("where, and into which file? udplane lab capture WHERE [DEVICE] -w FILE")
    if arguments.output == "-" and sys.stdout.isatty():
        raise UsageError("a capture is no text for a terminal; give -w FILE, or pipe it: | wireshark -k -i -")
    inside.move_in(arguments.lab, arguments.where)
    devices = _devices()
    if arguments.device and arguments.device not in devices:
        raise LabError(f"{arguments.where} has no device {arguments.device} that is up; there are {', '.join(devices)}")
    taps = {Tap(device): arguments.where for device in ([arguments.device] if arguments.device else devices)}
    request = CaptureRequest(lambda _: True, "", arguments.count, arguments.seconds)
    recorder = Recorder(taps, request)
    capture_to(arguments.output, recorder)
    lost = f", {recorder.dropped} more lost for want of room" if recorder.dropped else ""
    print(f"captured {recorder.captured} packets{lost}", file=sys.stderr)
    if sys.stderr.isatty() and arguments.output != "-":
        print(_how_to_read(arguments.output), file=sys.stderr)
    return 0


def _devices() -> list[str]:
    """The devices here that are up, but the loopback. LabError if there are none."""
    shown = subprocess.run(["ip", "-json", "link", "show", "up"], capture_output=True, text=True, check=False)
    found = [link["ifname"] for link in json.loads(shown.stdout or "[]") if link["ifname"] != "lo"]
    if not found:
        raise LabError("there is no device here that is up, so nothing passes")
    return found


def _how_to_read(file: str) -> str:
    """Lines that open a capture so that what is in the tunnel is seen."""
    script = f"lua_script:{resources.files('dataplane.lab').joinpath(LUA)}"
    with_lua = shlex.join(["wireshark", "-X", script, file])
    without = shlex.join(["wireshark", "-d", f"udp.port=={OVERLAY_PORT},ip", file])
    return f"{with_lua}\nor, for IPv4 in the tunnel alone:\n{without}"
