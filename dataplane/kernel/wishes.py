"""The wished state of the host: all that a node sets up there, each thing described once.

A `Wish` is one thing: a device with its settings, an address, a route, a kernel parameter, the rules, a file. Four
readers use the same list:

- set-up fulfils the wishes in their order (`WishedState.fulfil`), so that a CNI plugin which finds the subnet file, one
  of the last, finds all the rest in place
- looking after compares, and puts back what others changed (`WishedState.look_after`)
- status, health check and doctor tell what differs (`WishedState.differences`, `troubles`)
- leaving takes away what is left on the host (`WishedState.leftovers`; see `removal`)

What the node does not describe here it does not look after, and whatever it does describe is looked after.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dataplane.errors import NodeError, NoRoomError
from dataplane.kernel.leftovers import Leftovers

_log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""What has to be put back again and again is said once in so many seconds, with how often."""

_HOST_MANAGERS = {
    "NetworkManager": "set it unmanaged there",
    "systemd-network": "give it a .network file with Unmanaged=yes",
    "connmand": "put it into NetworkInterfaceBlacklist",
    "dhcpcd": "add it to denyinterfaces",
    "firewalld": "see its documentation for interfaces and tables of others",
    "ufw": "see /etc/ufw/sysctl.conf and its rules",
    "puppet": "see its manifests",
    "ansible": "see its playbooks",
}
"""Programs that change devices, rules and kernel parameters by themselves, as /proc/PID/comm has them."""


class Quiet:
    """Says the same thing once in QUIET_SECONDS: what comes and goes does not fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    def may_say(self, text: str) -> bool:
        """Whether it is time to say `text`, which is then taken for said."""
        now = self._clock()
        self._said = {old: at for old, at in self._said.items() if now - at < QUIET_SECONDS}
        if text in self._said:
            return False
        self._said[text] = now
        return True


class Wish(Protocol):
    """One thing on the host. The methods block for milliseconds, and are called one at a time."""

    @property
    def what(self) -> str:
        """Its name for people: `the route to 10.5.0.0/16 by udplane0`."""

    @property
    def vital(self) -> bool:
        """Whether pods are cut off, or new pods cannot start, as long as it is not fulfilled."""

    def difference(self) -> str:
        """What the host has instead, in a few words (`gone`, `is 0`); empty when all is as wished.

        Reads only. NodeError when that cannot be found out.
        """

    def fulfil(self) -> None:
        """Make it so. NodeError if that cannot be."""

    @property
    def leftovers(self) -> Leftovers:
        """What of it stays on the host until the node leaves."""


@dataclass(slots=True)
class _Record:
    """What happened to one wish: how often it was put back, why it is not fulfilled (empty: it is)."""

    repairs: int = 0
    unsaid: int = 0
    said_at: float = -QUIET_SECONDS
    trouble: str = ""


class WishedState:
    """The wishes of one node, in the order in which they are to be fulfilled.

    `look_after` and `fulfil` are called by one thread at a time; what only tells may be called from any.
    """

    def __init__(self, wishes: Iterable[Wish], clock: Callable[[], float] = time.monotonic) -> None:
        self.wishes: Sequence[Wish] = tuple(wishes)
        self._clock = clock
        self._quiet = Quiet(clock)
        self._records: dict[str, _Record] = {wish.what: _Record() for wish in self.wishes}

    def fulfil(self) -> None:
        """Set everything up. NodeError for the first vital thing that cannot be had; others stay as troubles.

        A full disk ends nothing: pods that are there need no file, and a node that starts again serves them.
        """
        for wish in self.wishes:
            record = self._records[wish.what]
            try:
                if wish.difference():
                    wish.fulfil()
                record.trouble = ""
            except NodeError as error:
                if wish.vital and not isinstance(error, NoRoomError):
                    raise
                self._fail(record, error)

    def look_after(self) -> int:
        """Put back what is not as wished, one line of log for all of it; returns how many things that were."""
        repaired: dict[str, str] = {}
        for wish in self.wishes:
            record = self._records[wish.what]
            try:
                difference = wish.difference()
                if difference:
                    wish.fulfil()
                    if not record.trouble:
                        repaired[wish.what] = difference
                record.trouble = ""
            except (NodeError, OSError, MemoryError) as error:
                self._fail(record, error)
        self._tell(repaired)
        return len(repaired)

    def adopt(self, earlier: "WishedState") -> None:
        """Go on counting where `earlier`, the wishes before a change of the node, has ended."""
        theirs, self._quiet = earlier._records, earlier._quiet  # noqa: SLF001
        self._records |= {what: record for what, record in theirs.items() if what in self._records}

    def troubles(self, *, vital_only: bool = False) -> list[str]:
        """Why things could not be had the last time."""
        found = [(wish, self._records[wish.what].trouble) for wish in self.wishes]
        return [trouble for wish, trouble in found if trouble and (wish.vital or not vital_only)]

    def repairs(self) -> dict[str, int]:
        """How often each thing had to be put back since the start, without the zeros."""
        return {what: record.repairs for what, record in self._records.items() if record.repairs}

    def differences(self) -> dict[str, str]:
        """What is not as wished at this moment, asked of the host anew."""
        found = {}
        for wish in self.wishes:
            try:
                found[wish.what] = wish.difference()
            except NodeError as error:
                found[wish.what] = str(error)
        return found

    def leftovers(self) -> Leftovers:
        """All that stays on the host when the node stops."""
        return Leftovers.sum(wish.leftovers for wish in self.wishes)

    def _fail(self, record: _Record, error: Exception) -> None:
        trouble = str(error) or "memory is short"
        if trouble != record.trouble and self._quiet.may_say(trouble):
            _log.error("%s", trouble)
        record.trouble = trouble

    def _tell(self, repaired: dict[str, str]) -> None:
        now, said = self._clock(), []
        for what, difference in repaired.items():
            record = self._records[what]
            record.repairs += 1
            record.unsaid += 1
            if now - record.said_at >= QUIET_SECONDS:
                again = f" ({record.unsaid} times since this was said last)" if record.unsaid > 1 else ""
                said.append(f"{what} {difference}{again}")
                record.said_at, record.unsaid = now, 0
        if said:
            fought = any(self._records[what].repairs > 1 for what in repaired)
            _log.warning("somebody changed the host: %s; put back%s", "; ".join(said), suspects() if fought else "")


def suspects() -> str:
    """The programs on this host that are known to change what they did not make, with the way to keep them off."""
    names = {_command(path) for path in Path("/proc").glob("[0-9]*/comm")}
    found = [f"{name} runs here: {advice}" for name, advice in _HOST_MANAGERS.items() if name[:15] in names]
    return "".join(f"; {text}" for text in found)


def _command(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
