"""An engine from somebody's own file: one class that decides about one packet, made to fit the Engine protocol.

For labs alone: `udplane lab up --engine FILE.py`. The file has a class `Engine` (dataplane/lab/engine_template.txt):

    class Engine:
        def encapsulate(self, packet, node):              # bytes from the TUN
            return packet, peer                           # the bytes to send, and one of node.peers
        def decapsulate(self, packet, sender, node):      # bytes of a datagram, and the address that it came from
            return packet                                 # the bytes for the TUN

Either may return the name of a drop reason instead: "NO_ROUTE", "TTL_EXCEEDED" and so on. Whatever else comes back, or
is raised, drops the packet, and is said in one line with file and line; the node goes on. A packet has `SECONDS`. The
file is read again whenever it has changed, before the next packet.

Or the file has a function `create(config)` that gives a whole Engine; that one is read once.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dataplane.addresses import Address, Network
from dataplane.engines.base import BatchEngine
from dataplane.engines.contract import Engine, EngineConfig
from dataplane.errors import ConfigError
from dataplane.packets.batch import HEADROOM, NO_PEER, PacketBatch
from dataplane.packets.packet import V4_MAPPED, check_header, tos
from dataplane.packets.routes import RouteSnapshot, address_key
from dataplane.packets.verdicts import Egress, Verdict

INSIDE = "UDPLANE_LAB_INSIDE"
"""Environment variable: set in the namespaces of a lab."""

SECONDS = 1.0
"""Time for one packet: far more than any takes that ends at all."""

PACKAGE = Path(__file__).resolve().parents[1]
"""What udplane brings along is as good as udplane."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as the file's class sees it."""

    id: int
    address: Address
    port: int
    subnets: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """This node, as the file's class sees it."""

    subnets: tuple[Network, ...]
    """Its own: what arrives has to be for one of them."""
    mtu: int
    """Bytes of the largest packet that may be sent."""
    peers: tuple[Peer, ...]


class OwnError(Exception):
    """What is wrong with the file, or with what it did, in one line."""


class OneByOne:
    """The file's class, loaded, and loaded again when the file has changed."""

    def __init__(self, file: Path) -> None:
        """Nothing is read before the first packet."""
        self.file = file
        self._stamp: tuple[int, ...] = ()
        self._engine: Any = None
        self._trouble = ""

    def renew(self) -> None:
        """Read the file if it has changed. Raises OwnError while it cannot be used."""
        try:
            found = self.file.stat()
        except OSError as error:
            raise OwnError(f"{self.file}: {error.strerror}") from error
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp:
            self._stamp, self._engine, self._trouble = stamp, None, ""
            try:
                self._engine = _instance(self.file)
            except OwnError as error:
                self._trouble = str(error)
        if self._trouble:
            raise OwnError(self._trouble)

    def encapsulate(self, packet: bytes, node: Node) -> tuple[bytes, int] | Verdict:
        """What the class makes of a packet from the TUN: bytes and id of a peer, or why it is dropped."""
        result = self._call("encapsulate", packet, node)
        if isinstance(result, str):
            return self._reason("encapsulate", result)
        known = {peer.id for peer in node.peers}
        if not isinstance(result, tuple) or len(result) != 2 or getattr(result[1], "id", None) not in known:
            raise OwnError(
                f"{self.file.name}: encapsulate returned {_short(result)} and not (packet, peer) or a reason"
            )
        return self._bytes("encapsulate", result[0]), result[1].id

    def decapsulate(self, packet: bytes, sender: str, node: Node) -> bytes | Verdict:
        """What the class makes of a datagram: bytes for the TUN, or why it is dropped."""
        result = self._call("decapsulate", packet, sender, node)
        return self._reason("decapsulate", result) if isinstance(result, str) else self._bytes("decapsulate", result)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            with _Limit(self.file, SECONDS):
                return getattr(self._engine, name)(*arguments)
        except (Exception, SystemExit) as error:
            raise OwnError(where(error, self.file, name)) from error

    def _bytes(self, name: str, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise OwnError(f"{self.file.name}: {name} returned {_short(value)} where bytes of a packet are due")
        return bytes(value)

    def _reason(self, name: str, text: str) -> Verdict:
        try:
            verdict = Verdict[text.upper()]
        except KeyError:
            verdict = Verdict.FORWARDED
        if verdict == Verdict.FORWARDED:
            reasons = ", ".join(v.name for v in Verdict if v != Verdict.FORWARDED)
            raise OwnError(f"{self.file.name}: {name} returned {_short(text)}, which is none of {reasons}")
        return verdict


class OwnEngine(BatchEngine):
    """The Engine protocol around a file's class."""

    def __init__(self, config: EngineConfig, file: Path) -> None:
        super().__init__(config)
        self._one = OneByOne(file)
        self._said = ""
        self._interrupted = False

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN."""
        node = self._node()
        for i in range(batch.count):
            packet = bytes(batch.packet(i))
            result = self._ask(lambda packet=packet: self._one.encapsulate(packet, node))  # type: ignore[misc]
            if isinstance(result, tuple) and _put(batch, i, result[0]):
                _forward(batch, i, result[1], Egress.UNDERLAY)
                batch.tos[i] = _tos(result[0]) if self.config.carry_tos else 0
            else:
                self._drop(batch, i, result, Verdict.SEND_FAILED, now_ns)

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay."""
        node = self._node()
        for i in range(batch.count):
            packet, sender = bytes(batch.packet(i)), batch.source_address(i)
            text = _text(sender)
            result = self._ask(lambda packet=packet, text=text: self._one.decapsulate(packet, text, node))  # type: ignore[misc]
            if isinstance(result, bytes) and _put(batch, i, result):
                _forward(batch, i, _peer_at(self.routes, sender), Egress.TUN)
            else:
                self._drop(batch, i, result, Verdict.WRITE_FAILED, now_ns)

    def interrupt(self) -> None:
        """Ask the file's class no more: a batch may have many packets, and each of them a whole second of time."""
        self._interrupted = True

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer of the file's class; None where it has failed, which is said once for each failure."""
        if self._interrupted:
            return None
        try:
            self._one.renew()
            return question()
        except OwnError as error:
            if str(error) != self._said:
                self._said = str(error)
                _log.error("%s", error)
            return None

    def _drop(self, batch: PacketBatch, i: int, result: Any, failed: Verdict, now_ns: int) -> None:
        reason = result if isinstance(result, Verdict) else failed
        if reason in (Verdict.NO_ROUTE, Verdict.TTL_EXCEEDED, Verdict.TOO_BIG) and (
            check_header(batch.packet(i)) != Verdict.FORWARDED
        ):
            batch.verdict[i], batch.next_hop[i], batch.egress[i] = reason, NO_PEER, Egress.NONE
        else:
            self.refuse(batch, i, reason, now_ns, self.config.mtu)

    def _node(self) -> Node:
        subnets = tuple(subnet for subnet in (self.config.subnet4, self.config.subnet6) if subnet is not None)
        peers = tuple(Peer(p.id, p.address, p.port, p.subnets) for p in self.routes.peers.values())
        return Node(subnets, self.config.mtu, peers)


class _Limit:
    """Ends a call that takes longer than it may: the interpreter asks at each instruction of the file."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file, self._end, self._seconds = str(file), time.monotonic() + seconds, seconds

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, _event: str, _: Any) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        frame.f_trace_opcodes = True  # a loop on one line has no further lines
        if time.monotonic() > self._end:
            raise TimeoutError(f"no end after {self._seconds:g} s: a loop that never ends?")
        return self._trace


def load(file: Path, config: EngineConfig) -> Engine:
    """The engine in a file. Raises ConfigError where files are no engines, or this one is not to be trusted."""
    if INSIDE not in os.environ:
        raise ConfigError(f"an engine from a file ({file}) is for labs: udplane lab up --engine {file}")
    module = _module(file) if _has_create(file) else {}
    if "create" in module:
        engine: Engine = module["create"](config)
        return engine
    return OwnEngine(config, file)


def _has_create(file: Path) -> bool:
    try:
        return "\ndef create(" in _source(file)
    except OwnError as error:
        raise ConfigError(str(error)) from error


def _source(file: Path) -> str:
    """The text of a file that this user, or root, alone can write. Raises OwnError."""
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OwnError(f"{file} is no file")
            if PACKAGE not in file.resolve().parents:
                _check_owner(file, found)
            return opened.read().decode()
    except OSError as error:
        raise OwnError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OwnError(f"{file} is no text: byte {error.start} is no UTF-8") from error


def _check_owner(file: Path, found: os.stat_result) -> None:
    """Take code from nobody but this user and root. Raises OwnError."""
    if found.st_uid not in (0, os.getuid()):
        raise OwnError(f"{file} belongs to somebody else; an engine of one's own is one's own file")
    if found.st_mode & stat.S_IWOTH:
        raise OwnError(f"anybody may write {file}; keep it to yourself: chmod o-w {file}")


def _module(file: Path) -> dict[str, Any]:
    """What running the file leaves. Raises OwnError."""
    source = _source(file)
    module: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        code: CodeType = compile(source, str(file), "exec")
        with _Limit(file, SECONDS):
            exec(code, module)
    except SyntaxError as error:
        raise OwnError(f"{file.name}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise OwnError(where(error, file, "")) from error
    return module


def _instance(file: Path) -> Any:
    module = _module(file)
    kind = module.get("Engine")
    if not isinstance(kind, type):
        raise OwnError(f"{file.name}: there is no class Engine in it")
    for name in ("encapsulate", "decapsulate"):
        if not callable(getattr(kind, name, None)):
            raise OwnError(f"{file.name}: the class Engine has no {name}")
    try:
        with _Limit(file, SECONDS):
            return kind()
    except (Exception, SystemExit) as error:
        raise OwnError(where(error, file, "Engine()")) from error


def where(error: BaseException, file: Path, name: str) -> str:
    """An exception in one line: the file's own line that it came by last, and what it says."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    at = f"{file.name}:{lines[-1]}" if lines else file.name
    said = " ".join(str(error).split())
    return f"{at}: {name + ': ' if name else ''}{type(error).__name__}{': ' + said if said else ''}"


def _put(batch: PacketBatch, i: int, data: bytes) -> bool:
    """Put bytes in the place of packet `i`; False when there is no room for so many."""
    if not 0 < len(data) <= batch.slot_size:
        return False
    start = i * (HEADROOM + batch.slot_size) + HEADROOM
    batch.view[start : start + len(data)] = data
    batch.offset[i], batch.length[i] = start, len(data)
    return True


def _forward(batch: PacketBatch, i: int, peer: int, egress: Egress) -> None:
    batch.verdict[i], batch.next_hop[i], batch.egress[i] = Verdict.FORWARDED, peer, egress


def _tos(packet: bytes) -> int:
    view = memoryview(packet)
    return tos(view) if check_header(view) == Verdict.FORWARDED else 0


def _peer_at(routes: RouteSnapshot, sender: bytes) -> int:
    return next((peer.id for peer in routes.peers.values() if address_key(peer.address) == sender), NO_PEER)


def _text(address: bytes) -> str:
    return str(ip_address(address[12:] if address.startswith(V4_MAPPED) else address))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
