"""The firewall rules of the node, kept in place; what they say is in `rules`.

Two programs can hold them: nft(8) (see `nft_rules`) and iptables(8) (see `iptables_rules`). nftables is the first
choice, but an accept in one nftables table does not overrule the drop of another: where Docker or an administrator has
set iptables' FORWARD policy to DROP, only a rule in that very chain lets pods' packets through, so there iptables holds
the rules. That is looked at again each time, since Docker may start later than the node.

A program that is installed may still fail: kernels of small boards come without nf_tables, or without what iptables
needs. So each is tried, and what it says is told. A host that has neither can do without (`--firewall none`), at a
price that is said (`WITHOUT_RULES`).
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from dataplane.addresses import Address
from dataplane.errors import NodeError
from dataplane.kernel.iptables_rules import Iptables, legacy_table_in_use
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.kernel.nft_rules import Nftables, base_chains
from dataplane.kernel.programs import complaint, installed, run
from dataplane.kernel.rules import Guard, RuleSet

_log = logging.getLogger(__name__)

CHOICES = ("auto", "nftables", "iptables", "none")
WITHOUT_RULES = (
    "without rules nothing masquerades what pods send out of the pod network, a forward policy of DROP cuts pods off, "
    "and pods and users of this host can send packets in other pods' names to other nodes"
)
_INSTALL = "on Debian: apt-get install "


class Manager(Protocol):
    """A program that holds rules in the kernel."""

    name: str

    def install(self, rules: Sequence[RuleSet], guards: Sequence[Guard]) -> None:
        """Put exactly these rules in place of any of ours, each family all or nothing. NodeError if that fails."""

    def remove(self) -> None:
        """Take our rules away; no error if there are none."""

    def listing(self) -> str:
        """Our rules as the kernel has them now; the same text as long as nobody touches them, empty for none."""

    def guarded(self) -> int:
        """Packets that the guard has dropped since it was installed."""


class Firewall:
    """The rules of one node: a `wishes.Wish`.

    `choice` is one of CHOICES. `manager` tells who holds the rules now, or None; `lacking`, which part of the guard
    this kernel cannot have and why, is empty when it has all.
    """

    what = "the firewall rules of the pod network"
    vital = True

    def __init__(self, rules: Sequence[RuleSet], choice: str = "auto", guards: Sequence[Guard] = ()) -> None:
        self.manager: Manager | None = None
        self.lacking = ""
        self._rules = [rule_set for rule_set in rules if rule_set.postrouting or rule_set.forward]
        self._guards = list(guards)
        self._choice = choice
        self._expected = ""
        self._guarded = self._last_guarded = 0

    @property
    def leftovers(self) -> Leftovers:
        """Nothing to write down: `remove_rules` finds them by their names."""
        return NOTHING

    def adopt(self, earlier: "Firewall") -> None:
        """Take over from `earlier`, whose rules are in place until `fulfil` puts these there; go on counting."""
        self.manager, self._guarded = earlier.manager, earlier._guarded  # noqa: SLF001

    def difference(self) -> str:
        """Whether the rules are there as they were left. The first time nobody can know, so they are not."""
        if not self._wanted():
            return "" if self.manager is None and self._expected == "none" else "may be there from an earlier start"
        manager = self._choose()
        if self.manager is None or manager.name != self.manager.name:
            return f"are not held by {manager.name}"
        listing = manager.listing()
        return "" if listing == self._expected else "were changed" if listing else "were gone"

    def fulfil(self) -> None:
        """Put the rules in place, and take away those that another program holds."""
        if not self._wanted():
            remove_rules()
            self.manager, self._expected = None, "none"
            return
        manager = self._choose()
        for other in managers():
            if other.name != manager.name:
                other.remove()
        self._guarded = self.guarded()
        self._install(manager)
        self.manager, self._expected = manager, manager.listing()

    def set_members(self, members: frozenset[Address]) -> None:
        """Guard these nodes from now on. NodeError if that cannot be; looking after the rules tries it again."""
        guards = [
            replace(guard, members=frozenset(member for member in members if member.version == guard.version))
            for guard in self._guards
        ]
        if guards == self._guards:
            return
        self._guards = guards
        if self.manager is not None:
            self.fulfil()

    def guarded(self) -> int:
        """Packets to members that the guard has dropped since the start. Runs a program; any thread may ask."""
        with contextlib.suppress(NodeError):
            self._last_guarded = self._guarded + (self.manager.guarded() if self.manager is not None else 0)
        return self._last_guarded

    def _wanted(self) -> bool:
        return self._choice != "none" and bool(self._rules or self._guards)

    def _install(self, manager: Manager) -> None:
        """Install all, or as much of the guard as this kernel has."""
        guards, lacking = self._guards, ""
        while True:
            try:
                manager.install(self._rules, guards)
            except NodeError as error:
                if not guards:
                    raise NodeError(f"{error}; try the other --firewall") from error
                lacking = str(error)
                less = [replace(guard, checks_sources=False) for guard in guards]
                guards = less if less != guards else []
            else:
                break
        if lacking and lacking != self.lacking:
            part = "does not see through forged sources" if guards else "is not in place"
            _log.warning("the guard of members' overlay port %s: %s", part, lacking)
        self.lacking = lacking

    def _choose(self) -> Manager:
        usable = managers(try_iptables=self._choice == "iptables")
        dropping = next(filter(None, map(iptables_that_drops, {rules.version for rules in self._rules})), "")
        usable_and_dropping = [manager for manager in usable if manager.name == dropping]
        if self._choice != "auto":
            for manager in [*usable_and_dropping, *usable]:
                if manager.name.startswith(self._choice):
                    return manager
            raise NodeError(
                f"--firewall {self._choice} cannot be: {'; '.join(complaints(self._choice))}; {_INSTALL}{self._choice}"
            )
        if not usable:
            raise NodeError(
                f"nothing here can hold the rules of the pod network: {'; '.join(complaints())}; {_INSTALL}nftables, "
                "or start the node with --firewall none (see docs/operate.md for what does not work then)"
            )
        if self.manager is not None and self.manager.name not in {manager.name for manager in usable}:
            # It worked before, so what it says now is about this moment: no reason to move the rules elsewhere.
            raise NodeError(f"cannot look after the rules: {'; '.join(complaints(self.manager.name))}")
        return (usable_and_dropping or usable)[0]


def managers(*, try_iptables: bool = False) -> list[Manager]:
    """Those that work on this host, the preferred one first.

    Whether iptables works is tried only where it is wished for, or nftables does not: it makes the kernel load tables.
    The legacy kind counts where it is in use, or nothing else works.
    """
    found: list[Manager] = []
    if not complaint(_PROBES["nftables"]):
        found.append(Nftables())
    try_iptables = try_iptables or not found
    for name in _kinds_of_iptables():
        in_question = name == "iptables" or not found or any(map(legacy_table_in_use, (4, 6)))
        if in_question and not (try_iptables and complaint(_PROBES[name])):
            found.append(Iptables(name))
    return found


def _kinds_of_iptables() -> list[str]:
    """The names under which there are different programs; of the two, `iptables` is the system's choice."""
    programs: dict[str, str] = {}
    for name in ("iptables", "iptables-legacy"):
        path = shutil.which(f"{name}-restore")
        if path is not None:
            programs.setdefault(os.path.realpath(path), name)
    return list(programs.values())


def remove_rules() -> None:
    """Take our rules away, whoever holds them."""
    for manager in managers():
        manager.remove()


def iptables_that_drops(version: int) -> str:
    """The kind of iptables whose own FORWARD chain has the policy DROP, as Docker sets it; empty if none has.

    Asked so that it never makes the kernel load iptables' tables: on a host that does not use them nothing drops.
    """
    legacy = (_kinds_of_iptables() or [""])[-1]
    program = legacy.replace("ip", {4: "ip", 6: "ip6"}[version], 1)
    asked = legacy_table_in_use(version) and installed(program)
    if asked and "-P FORWARD DROP" in run([program, "-w", "5", "-S", "FORWARD"], check=False):
        return legacy
    family, name = {4: "ip", 6: "ip6"}[version], ("filter", "FORWARD")
    drops = any(
        (chain["family"], chain["table"], chain["name"]) == (family, *name) and chain["policy"] == "drop"
        for chain in base_chains("forward")
    )
    return "iptables" if drops else ""


_PROBES = {
    "nftables": ["nft", "list", "tables"],
    "iptables": ["iptables", "-w", "5", "-S", "FORWARD"],
    "iptables-legacy": ["iptables-legacy", "-w", "5", "-S", "FORWARD"],
}
"""What each program is asked to see whether it works with this kernel."""


def complaints(choice: str = "") -> list[str]:
    """What is wrong with each program, or with those of one choice; asking may make the kernel load their tables."""
    found = [complaint(command) for name, command in _PROBES.items() if name.startswith(choice)]
    return [text for text in found if text]
