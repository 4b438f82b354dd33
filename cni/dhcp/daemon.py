"""The DHCP daemon: `dhcp daemon` holds the leases of this host's pods until the plugin releases them.

One process and one event loop serve every lease. A plugin's call arrives on the daemon's socket (cni.dhcp.rpc):

    DHCP.Allocate   answers at once where there is a lease, else when the attachment has got one
    DHCP.Release    gives the lease back and answers

Leases outlive the daemon: SIGTERM and SIGKILL alike leave them to the next one, which reads the records.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cni.dhcp import rpc
from cni.dhcp.attachment import Attachment, new_record
from cni.dhcp.client import Timing
from cni.dhcp.gob import Struct, Value
from cni.dhcp.interface import InterfaceGoneError
from cni.dhcp.lease import Lease
from cni.dhcp.loop import Loop
from cni.dhcp.message import Option
from cni.dhcp.options import default_client_id, read_provided, read_requested
from cni.dhcp.records import Record, record_directory
from cni.lib.errors import CniError, describe
from cni.lib.gojson import Fields, loads

_BACKLOG = 128
_RECEIVE_BYTES = 65536
_FIRST_PASSED_FD = 3  # systemd's protocol, sd_listen_fds(3)


@dataclass(frozen=True)
class Settings:
    """The daemon's command line. `host_prefix` stands before every path of the host."""

    socket_path: str
    pid_file: str = ""
    host_prefix: str = ""
    broadcast: bool = False
    timing: Timing = field(default_factory=Timing)
    resend_timeout: float = 208.0


class DaemonError(Exception):
    """The daemon cannot start; the text says why."""


class Daemon:
    """Everything that the daemon knows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = record_directory(settings.host_prefix + settings.socket_path)
        self._loop = Loop()
        self._attachments: dict[tuple[str, str, str], Attachment] = {}
        self._connections: set[_Connection] = set()
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises DaemonError if it cannot begin."""
        listener = _listen(self._settings.host_prefix + self._settings.socket_path)
        _write_pid_file(self._settings.pid_file)
        wakeup = self._catch_signals()
        self._loop.add(listener, lambda: self._accept(listener))
        self._resume()
        try:
            while not self._stopping:
                self._loop.wait(min((a.deadline for a in self._attachments.values()), default=math.inf))
                self._tick()
        finally:
            for attachment in self._attachments.values():
                attachment.close()
            self._loop.close()
            wakeup.close()
            listener.close()
            _remove_files(self._settings)

    def _catch_signals(self) -> socket.socket:
        """Have SIGTERM and SIGINT end the loop; the socket wakes it up."""
        wakeup, signalled = socket.socketpair()
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.detach())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._loop.add(wakeup, lambda: None)
        return wakeup

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _resume(self) -> None:
        for record in self._directory.load():
            attachment = self._attach(record)
            attachment.resume()
            _log(f"{record}: lease resumed")

    def _attach(self, record: Record) -> Attachment:
        settings = self._settings
        attachment = Attachment(record, self._directory, self._loop, _log, settings.timing, settings.broadcast)
        self._attachments[record.key] = attachment
        return attachment

    def _tick(self) -> None:
        now = self._loop.now()
        for attachment in list(self._attachments.values()):
            if not attachment.finished and now >= attachment.deadline:
                attachment.tick(now)
            if attachment.finished and self._attachments.get(attachment.record.key) is attachment:
                del self._attachments[attachment.record.key]

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError as error:
            _log(f"cannot accept a connection: {error}")
            return
        self._connections.add(_Connection(accepted, self, self._loop))

    def disconnected(self, connection: _Connection) -> None:
        """The peer is gone, and with it its interest in leases."""
        self._connections.discard(connection)
        for attachment in self._attachments.values():
            attachment.abandon(connection.answer_allocate)

    def call(self, connection: _Connection, call: rpc.Call) -> None:
        """Carry out one call. Raises CniError for what is wrong with it."""
        network, ipam = _read_network(call.arguments)
        arguments = call.arguments
        key = (_text(arguments, "ContainerID"), network, _text(arguments, "IfName"))
        attachment = self._attachments.get(key)
        if call.method == rpc.RELEASE:
            if attachment is not None:
                attachment.release()
            connection.send_result(call, rpc.EMPTY, {})
        elif call.method == rpc.ALLOCATE:
            record = Record(*key, netns=self._settings.host_prefix + _text(arguments, "Netns"))
            record.provide = read_provided(ipam, _text(arguments, "Args"))
            record.request = read_requested(ipam)
            record.client_id = record.provide.get(Option.CLIENT_ID, default_client_id(*key))
            self._allocate(connection, attachment, record)
        else:
            raise CniError(f"rpc: can't find method {call.method}")

    def _allocate(self, connection: _Connection, attachment: Attachment | None, record: Record) -> None:
        try:
            record = new_record(record)
            if attachment is not None and attachment.record.namespace != record.namespace:
                attachment.release()  # the same names, but another pod: the former one was never released
                attachment = None
            if attachment is not None and attachment.lease is not None and not attachment.finished:
                connection.answer_allocate(attachment.lease, "")
                return
            if attachment is None or attachment.finished:
                attachment = self._attach(record)
                attachment.acquire(self._loop.now())
            attachment.wait(connection.answer_allocate, self._loop.now() + self._settings.resend_timeout)
        except (InterfaceGoneError, OSError) as error:
            raise CniError(describe(error)) from error


class _Connection:
    """One plugin's connection. It may make one call at a time."""

    def __init__(self, accepted: socket.socket, daemon: Daemon, loop: Loop) -> None:
        accepted.settimeout(1.0)  # for sending: an answer fits the socket's buffer, unless the peer does not read
        self._socket = accepted
        self._daemon = daemon
        self._loop = loop
        self._protocol = rpc.Server()
        self._pending: rpc.Call | None = None
        loop.add(accepted, self._on_data)

    def _on_data(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                self._close()
                return
            to_send, calls = self._protocol.feed(data)
            self._socket.sendall(to_send)
            for call in calls:
                self._on_call(call)
        except (rpc.RpcError, OSError) as error:
            _log(f"a plugin's connection: {error}")
            self._close()

    def _on_call(self, call: rpc.Call) -> None:
        if self._pending is not None:
            raise rpc.RpcError("a second call before the first was answered")
        self._pending = call
        try:
            self._daemon.call(self, call)
        except (CniError, ValueError) as error:
            self._send(self._protocol.error(call, describe(error)))

    def answer_allocate(self, lease: Lease | None, problem: str) -> None:
        """Answer the pending DHCP.Allocate."""
        if self._pending is None:
            return
        if lease is None:
            self._send(self._protocol.error(self._pending, problem))
        else:
            self.send_result(self._pending, rpc.RESULT, rpc.write_result(lease.result))

    def send_result(self, call: rpc.Call, kind: Struct, value: Mapping[str, Value]) -> None:
        """Answer a call."""
        self._send(self._protocol.result(call, kind, value))

    def _send(self, data: bytes) -> None:
        self._pending = None
        try:
            self._socket.sendall(data)
        except OSError as error:
            _log(f"cannot answer a plugin: {error}")

    def _close(self) -> None:
        self._loop.remove(self._socket)
        self._socket.close()
        self._daemon.disconnected(self)


def _read_network(arguments: Mapping[str, Value]) -> tuple[str, Fields]:
    """The network's name and its ipam section, from the configuration that the plugin passed on."""
    data = arguments.get("StdinData", b"")
    try:
        conf = loads(data if isinstance(data, bytes) else b"")
        fields = Fields(conf if isinstance(conf, dict) else {}, "NetConf")
        return fields.text("name"), fields.child("ipam", "IPAMConfig") or Fields({}, "IPAMConfig")
    except ValueError as error:
        raise CniError(f"error parsing netconf: {error}") from error


def _text(arguments: Mapping[str, Value], name: str) -> str:
    value = arguments.get(name, "")
    return value if isinstance(value, str) else ""


def _listen(path: str) -> socket.socket:
    """The listening socket: systemd's, or a new one at `path`, where a dead daemon's socket is swept away."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "").isdigit():
        count = int(os.environ["LISTEN_FDS"])
        if count > 1:
            raise DaemonError(f"Too many ({count}) FDs passed through socket activation")
        if count == 1:
            return socket.socket(fileno=_FIRST_PASSED_FD)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        _remove_stale_socket(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise DaemonError(f"Error getting listener: listen unix {path}: {describe(error)}") from error
    return listener


def _remove_stale_socket(path: str) -> None:
    """Remove a socket that nobody listens on. Raises DaemonError if somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise DaemonError(f"another DHCP daemon is listening on {path}; stop it first, or choose another -socketpath")


def _write_pid_file(path: str) -> None:
    if not path:
        return
    if not os.path.isabs(path):
        raise DaemonError(f'Error writing pidfile "{path}": path not absolute')
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise DaemonError(f'Error writing pidfile "{path}": {describe(error)}') from error


def _remove_files(settings: Settings) -> None:
    for path in (settings.host_prefix + settings.socket_path, settings.pid_file):
        if path and os.path.exists(path):
            os.unlink(path)


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
