"""Packets written as scapy expressions, and read by scapy: the one module of the product that imports it.

`IP(dst="pod4")/UDP()/"hello"` is Python, evaluated with the names of scapy's layers, of places of the lab, and a few
functions that make values. It is the user's own code, run with the user's own rights: what is kept from it keeps
mistakes short and does not make it safe to run somebody else's.

Importing this module teaches scapy the overlay: the payload of UDP port 8285 is an IPv4 or IPv6 packet.
"""

import ast
import difflib
import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from dataplane.errors import UsageError
from dataplane.lab.dissect import OVERLAY_PORT
from dataplane.lab.netns import LabError

logging.getLogger("scapy").setLevel(logging.ERROR)

try:
    from scapy.config import conf
    from scapy.layers import dhcp, dns, inet, inet6, l2, ntp, vxlan
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Packet, Padding, Raw
except ImportError as error:
    raise LabError(f"scapy cannot be imported ({error}); it comes with: pip install 'udplane[lab]'") from error

LAYER_MODULES = (l2, inet, inet6, dns, dhcp, ntp, vxlan)

FUNCTIONS = {f.__name__: f for f in (bytes, bytearray, int, str, list, tuple, dict, range, len, min, max, bool)}
"""What an expression may call beside layers."""

MOST_PACKETS = 256
"""How many an expression may stand for: scapy's sets, such as `IP(ttl=(1, 64))`, are one packet for each value."""

MOST_BYTES = 65535 + 18
"""The longest IP packet there is, in an Ethernet frame with a VLAN tag."""


class Inner(Packet):  # type: ignore[misc]
    """The payload of a datagram of the overlay: whatever its first four bits say."""

    name = "udplane"
    fields_desc = ()

    @classmethod
    def dispatch_hook(cls, data: bytes | None = None, *_: Any, **__: Any) -> type[Packet]:
        """The layer that reads `data`."""
        found: type[Packet] = {4: IP, 6: IPv6}.get(data[0] >> 4, Raw) if data else Raw
        return found


# In front of what is bound already: scapy's own source port is that of DNS.
UDP.payload_guess = [({"dport": OVERLAY_PORT}, Inner), ({"sport": OVERLAY_PORT}, Inner), *UDP.payload_guess]


def layers() -> dict[str, type[Packet]]:
    """The layers that an expression can name."""
    return {"Raw": Raw, "Padding": Padding} | {
        name: value
        for module in LAYER_MODULES
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Packet) and not name.startswith("_")
    }


def packets(expression: str, names: Mapping[str, str]) -> list[Packet]:
    """The packets that an expression stands for; `names` are what it can name beside layers.

    Raises UsageError, which quotes the expression's own mistake, when it stands for none, or for too many or too long
    ones.
    """
    conf.verb = 0
    known: dict[str, Any] = {**FUNCTIONS, **layers(), **names}
    value = _evaluated(expression, known)
    parts = value if isinstance(value, list | tuple) else [value]
    if not parts or not all(isinstance(part, Packet) for part in parts):
        raise UsageError(
            f"the expression is no packet but {type(value).__name__}: {str(value)[:60]}; "
            """write layers with / between them, such as IP(dst="pod4")/UDP()/"hello\""""
        )
    found = list(itertools.islice(_single(parts), MOST_PACKETS + 1))
    if len(found) > MOST_PACKETS:
        raise UsageError(f"the expression stands for more than {MOST_PACKETS} packets; narrow its sets, or use --count")
    return found


def to_bytes(packet: Packet) -> bytes:
    """What goes on the wire, lengths and checksums filled in. Raises UsageError if it cannot be built."""
    try:
        data = bytes(packet)
    except Exception as error:  # it is the user's code that fails, in whatever way
        if not _is_too_long(packet):
            raise UsageError(f"this packet cannot be built: {_said(error)}") from error
        data = bytes(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"the packet is too large, since no IP packet has more than {MOST_BYTES - 18} bytes; shorten it"
        )
    return data


def _is_too_long(packet: Packet) -> bool:
    """Whether a packet cannot be built since the length fields of its headers cannot say how long it is."""
    return packet.haslayer(Raw) and len(packet[Raw].load) > MOST_BYTES - 18 - 28


def kind(packet: Packet) -> str:
    """What it starts with: `ethernet`, `ip`, or `data`."""
    if isinstance(packet, Ether):
        return "ethernet"
    return "ip" if isinstance(packet, IP | IPv6) else "data"


def destination(packet: Packet) -> str:
    """Where an IP packet goes."""
    return str(packet.dst)


def summary(packet: Packet) -> str:
    """The packet in one line."""
    return str(packet.summary())


def _evaluated(expression: str, known: dict[str, Any]) -> Any:
    try:
        code = compile(ast.parse(expression.strip(), mode="eval"), "expression", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise UsageError(f"the expression cannot be read{at}: {_said(error)}; quote it for the shell: '...'") from error
    unknown = [name for name in code.co_names if name not in known and name in _free_names(expression)]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}?" if close else "there are scapy's layers and the places of the lab"
        raise UsageError(f"the expression names {unknown[0]}, which is not known; {hint}")
    try:
        return eval(code, {"__builtins__": {}, **known})
    except Exception as error:  # it is the user's code that fails, in whatever way
        raise UsageError(f"the expression fails: {_said(error)}") from error


def _free_names(expression: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(expression.strip(), mode="eval")) if isinstance(node, ast.Name)}


def _single(parts: Iterable[Packet]) -> Iterable[Packet]:
    """Each packet that a packet with sets in it stands for."""
    for part in parts:
        try:
            yield from part
        except Exception as error:  # it is the user's code that fails, in whatever way
            raise UsageError(f"this packet cannot be built: {_said(error)}") from error


def _said(error: BaseException) -> str:
    text = str(error.msg if isinstance(error, SyntaxError) else error).strip() or type(error).__name__
    if isinstance(error, OSError):
        return f"{text}; names are those of `udplane lab status`"
    return text if isinstance(error, SyntaxError) else f"{type(error).__name__}: {text}"
