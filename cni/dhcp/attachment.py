"""One interface in one network as the daemon looks after it: the client's decisions put into effect.

    acquire -> wait for carrier -> the client looks for a server -> granted: answer the waiting calls, save
        -> renew, rebind -> ... -> release

The plugin that called for the first lease configures the interface with it. What a server decides later is put into
effect here: when it refuses the address or the lease runs out, the address is taken off the interface at once and the
client looks for a new lease; when that comes, the interface is configured with it. A packet socket is open only
while the client waits for an answer.
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Callable

from cni.dhcp.client import Client, Granted, Identity, Lost, Output, Send, Timing
from cni.dhcp.interface import InterfaceGoneError, PodInterface, Port, send_from_host, uplink_of
from cni.dhcp.lease import Lease, LeaseError
from cni.dhcp.loop import Loop
from cni.dhcp.message import BROADCAST, MessageError, decode, wrap
from cni.dhcp.records import Record, RecordDirectory
from cni.lib.log import warn

_MOST_AT_ONCE = 32  # messages that are read before others get their turn, however many wait
_CARRIER_WAIT = 10.0  # then try all the same: not every device reports its carrier

Waiter = Callable[[Lease | None, str], None]
# Called once, with the lease, or with None and what went wrong.


class Attachment:
    """Holds the lease of one interface until it is released. `finished` tells that it can be forgotten."""

    def __init__(
        self,
        record: Record,
        directory: RecordDirectory,
        loop: Loop,
        log: Callable[[str], None],
        timing: Timing,
        broadcast: bool,
    ) -> None:
        self.record = record
        self.finished = False
        self._directory = directory
        self._loop = loop
        self._log = log
        identity = Identity(record.hardware, record.client_id, record.provide, record.request, broadcast)
        self._client = Client(identity, timing, random.Random())
        self._waiters: dict[Waiter, float] = {}
        self._port: Port | None = None
        self._watcher: socket.socket | None = None
        self._start_at = math.inf
        self._last_refusal = ""
        self._answered = False  # a lease has been handed to the plugin, so the address is on the interface

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        return min(self._client.deadline, self._start_at, *self._waiters.values(), math.inf)

    @property
    def lease(self) -> Lease | None:
        """The lease, if there is one now."""
        return self._client.lease

    def wait(self, waiter: Waiter, deadline: float) -> None:
        """Have `waiter` called when there is a lease, or at the deadline."""
        self._waiters[waiter] = deadline

    def abandon(self, waiter: Waiter) -> None:
        """The caller is gone. A lease that nobody has heard of is of no use then."""
        if self._waiters.pop(waiter, None) is not None and not self._waiters and not self._answered:
            self.release()

    def acquire(self, now: float) -> None:
        """Begin to get the first lease. Raises InterfaceGoneError, OSError."""
        self._log(f"{self.record}: acquiring lease")
        with PodInterface(self.record.netns, self.record.ifname, self.record.namespace) as interface:
            self._watcher = interface.watch()  # before the look at the carrier, so that no change is missed
            self._loop.add(self._watcher, self._on_link_change)
            interface.set_up()
        self._start_at = now + _CARRIER_WAIT
        self._on_link_change()

    def resume(self) -> None:
        """Take up the saved record; the next `tick` does what is due."""
        self._answered = True
        if self.record.lease is not None:
            self._client.resume(self.record.lease)
        else:
            self._start_at = self._loop.now()

    def verify(self) -> None:
        """Raise InterfaceGoneError if the interface is not where it was."""
        PodInterface(self.record.netns, self.record.ifname, self.record.namespace).close()

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._start_at:
            self._stop_watching()
            self._perform(self._client.start(now))
        self._perform(self._client.tick(now))
        for waiter in [waiter for waiter, deadline in self._waiters.items() if now >= deadline]:
            del self._waiters[waiter]
            waiter(None, "no more tries")
        if not self._waiters and not self._answered:
            self.release()

    def release(self) -> None:
        """Give the lease back, from the pod or else from the host, and forget the attachment; once."""
        if self.finished:
            return
        self.finished = True
        self._stop_watching()
        if self._client.lease is not None:
            self._log(f"{self.record}: releasing lease")
        for output in self._client.release():
            if isinstance(output, Send):
                self._send_release(output)
        self._close_port()
        self._settle(None, "the interface was released")
        self._directory.forget(self.record)

    def close(self) -> None:
        """Let go of every socket and leave the record to the next daemon."""
        self._stop_watching()
        self._close_port()

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._send(output)
            elif isinstance(output, Granted):
                self._granted(output.lease)
            else:
                self._lost(output)

    def _send(self, send: Send) -> None:
        try:
            if self._port is None:
                with PodInterface(self.record.netns, self.record.ifname, self.record.namespace) as interface:
                    self._port = interface.open_port()
                self._loop.add(self._port, self._on_answer)
            _transmit(self._port, send)
        except InterfaceGoneError as error:
            self._log(f"{self.record}: {error}")
            self._settle(None, str(error))
            self.release()
        except OSError as error:
            self._log(f"{self.record}: cannot send now: {error}")  # the client sends again in a while

    def _send_release(self, send: Send) -> None:
        assert send.lease is not None
        lease = send.lease
        try:
            with PodInterface(self.record.netns, self.record.ifname, self.record.namespace) as interface:
                port = interface.open_port()
            try:
                _transmit(port, send)
            finally:
                port.close()
        except (InterfaceGoneError, OSError):
            payload = send.message.encode()
            packet = wrap(payload, lease.address, lease.server_id)
            for failure in send_from_host(packet, payload, lease.server_id, self.record.uplink, lease.server_hardware):
                self._log(f"{self.record}: failed to release DHCP lease by {failure}")

    def _on_answer(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                received = self._port.receive() if self._port is not None else None
                if received is None:
                    return
                payload, hardware = received
                self._perform(self._client.receive(decode(payload), hardware, self._loop.now()))
            except MessageError:
                continue  # not for us, or damaged: as if it had not come
            except LeaseError as error:
                if str(error) != self._last_refusal:  # a server may say it as often as it likes
                    self._log(f"{self.record}: {error}")
                self._last_refusal = str(error)
            except OSError as error:
                self._log(f"{self.record}: cannot receive: {error}")
                self._close_port()  # the next send opens another one

    def _on_link_change(self) -> None:
        assert self._watcher is not None
        _drain(self._watcher)
        try:
            with PodInterface(self.record.netns, self.record.ifname, self.record.namespace) as interface:
                if interface.has_carrier:
                    self._stop_watching()
                    self._perform(self._client.start(self._loop.now()))
        except InterfaceGoneError as error:
            self._settle(None, str(error))
            self.release()

    def _granted(self, lease: Lease) -> None:
        self._close_port()
        if lease.net is None:
            self._settle(None, "DHCP option Subnet Mask not found in DHCPACK")
            self.release()
            return
        self._log(f"{self.record}: {lease.net} is leased for {lease.lease_len:.0f} s")
        former, self.record.lease = self.record.lease, lease
        if self._answered and (former is None or former.net != lease.net):
            self._reconfigure(former, lease)
        self._save()
        self._answered = True
        self._settle(lease, "")

    def _lost(self, lost: Lost) -> None:
        self._log(f"{self.record}: lost the lease of {lost.lease.net}: {lost.reason}")
        self._reconfigure(lost.lease, None)
        self.record.lease = None
        self._save()

    def _reconfigure(self, former: Lease | None, lease: Lease | None) -> None:
        """Replace one lease's address on the interface by another's."""
        try:
            with PodInterface(self.record.netns, self.record.ifname, self.record.namespace) as interface:
                if former is not None:
                    interface.unconfigure(former)
                if lease is not None:
                    interface.configure(lease)
        except (InterfaceGoneError, OSError) as error:
            self._log(f"{self.record}: cannot change the interface's address: {error}")

    def _save(self) -> None:
        try:
            self._directory.save(self.record)
        except OSError as error:
            self._log(f"{self.record}: the lease is not saved, a restarted daemon will not know it: {error}")

    def _settle(self, lease: Lease | None, problem: str) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter(lease, problem)

    def _close_port(self) -> None:
        if self._port is not None:
            self._loop.remove(self._port)
            self._port.close()
            self._port = None

    def _stop_watching(self) -> None:
        self._start_at = math.inf
        if self._watcher is not None:
            self._loop.remove(self._watcher)
            self._watcher.close()
            self._watcher = None


def release_recorded(directory: RecordDirectory, key: tuple[str, str, str]) -> None:
    """Give back the lease of one attachment as it is recorded, in place of a daemon that does not run."""
    for record in directory.load():
        if record.key == key:
            attachment = Attachment(record, directory, Loop(), warn, Timing(), broadcast=False)
            attachment.resume()
            attachment.release()


def new_record(record: Record) -> Record:
    """Complete a record with what the interface itself tells. Raises InterfaceGoneError."""
    with PodInterface(record.netns, record.ifname) as interface:
        record.namespace = interface.namespace
        record.hardware = interface.hardware
        record.uplink = uplink_of(interface.link)
    return record


def _transmit(port: Port, send: Send) -> None:
    payload = send.message.encode()
    if send.lease is None:
        port.send(wrap(payload, send.message.ciaddr, BROADCAST))
    else:
        port.send(wrap(payload, send.lease.address, send.lease.server_id), send.lease.server_hardware)


def _drain(sock: socket.socket) -> None:
    """Read and drop what has come; a socket that overflowed (ENOBUFS) has told what it had to tell."""
    try:
        for _ in range(_MOST_AT_ONCE):
            sock.recv(65536)
    except OSError:
        pass
