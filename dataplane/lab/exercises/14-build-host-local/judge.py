"""Judges an allocator of addresses: `judge.py alone|together|killed FILE SUBNET`.

alone: one after the other, as a runtime that has time.
together: a second one comes at each moment at which the first one is about to change a file.
killed: it is killed at each of these moments, and half-way through what it writes; the runtime then tries again, or
gives up and calls del.

No clock and no chance is in it: the same file gets the same verdict each time. One line says what is wrong, exit status 1.
"""

import ipaddress
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `python3 -I` as well
from watched import Program

SHOWN = 100
"""Characters of an error that are shown."""


class WrongError(Exception):
    """What is wrong, in one line."""


class World:
    """A directory with an allocator."""

    def __init__(self, file, subnet, directory):
        self.state, self.saved, self.subnet = directory / "state", directory / "saved", subnet
        outputs = directory / "out"
        for path in (self.state, outputs):
            path.mkdir()
        self.program = Program(file, self.state, outputs)
        self.all = [str(address) for address in list(ipaddress.ip_network(subnet).hosts())[1:]]

    def start(self, call, **stop):
        """Begin `add NAME` or `del NAME`."""
        return self.program.start(str(self.state), self.subnet, *call.split(), **stop)

    def run(self, call, when=""):
        """Run it to its end; what it has printed. It has to succeed."""
        running = self.start(call)
        check_end(running, call, when)
        return running.said("out")

    def add(self, name, when=""):
        """An address for a container."""
        return self.address(self.run(f"add {name}", when), f"add {name}", when)

    def address(self, text, call, when):
        """What was printed, if it is an address of those to give away."""
        if text not in self.all:
            raise WrongError(f'{when}"{call}" printed {text[:40]!r}, which is none of {self.all[0]} to {self.all[-1]}')
        return text

    def save(self):
        """Keep the directory as it is."""
        shutil.copytree(self.state, self.saved, symlinks=True)

    def restore(self):
        """Make the directory what it was."""
        shutil.rmtree(self.state)
        shutil.copytree(self.saved, self.state, symlinks=True)

    def calls(self, call):
        """How often it changes files."""
        self.restore()
        running = self.start(call)
        check_end(running, call, "")
        return running.calls

    def verify(self, holders, when):
        """That each of these has its own address, and all others can be given away. None: an address not known yet."""
        found = {}
        for name, known in holders.items():
            address = self.add(name, when)
            if known and address != known:
                raise WrongError(f"{when}{name} has {address}, and was told {known} before")
            for other, its in found.items():
                if its == address:
                    raise WrongError(f"{when}{other} and {name} both have {address}")
            found[name] = address
        for number in range(len(self.all) - len(holders)):
            running = self.start(f"add x{number}")
            if not running.end() or running.status != 0:
                count = len(found)
                raise WrongError(
                    f"{when}only {count} of {len(self.all)} addresses are in use, and no more is given: one is lost"
                )
            address = self.address(running.said("out"), f"add x{number}", when)
            if address in found.values():
                raise WrongError(f"{when}{address} is given to x{number} as well: one address twice")
            found[f"x{number}"] = address


def check_end(running, call, when):
    """That it came to an end, and to a good one."""
    if not running.end():
        raise WrongError(f'{when}"{call}" waits, and would for ever: for whom?')
    if running.status != 0:
        lines = running.said("err").splitlines() or [f"exit status {running.status}, and no word"]
        raise WrongError(f'{when}"{call}" fails: {lines[-1][:SHOWN]}')


def alone(world):
    """One after the other."""
    first = {name: world.add(name) for name in ("a", "b", "c")}
    if not any(world.state.iterdir()):
        raise WrongError("nothing lies in DIRECTORY after three adds; what is remembered has to be there")
    world.verify(first, "")
    if world.start("add more").end() is False:
        raise WrongError('"add more" does not end when all addresses are given away')
    running = world.start("add more")
    running.end()
    if running.status == 0 or running.said("out"):
        raise WrongError(
            f'all are given away, and still "add more" printed {running.said("out")[:40]!r}; raise LookupError'
        )
    if "in line" in running.said("err"):
        raise WrongError(f"all are given away: {running.said('err').splitlines()[-1][:SHOWN]}; raise LookupError")
    for name in ("b", "b", "stranger"):
        world.run(f"del {name}", "del has to succeed on what is gone: ")
    if world.add("again") != first["b"]:
        raise WrongError(f'{first["b"]} is the only free one after "del b", and was not given to the next')
    for name in ("a", "c", "again", "x0", "x1"):
        world.run(f"del {name}")
    world.verify({}, "after all were freed: ")


def together(world):
    """A second one comes in between."""
    had = world.add("a")
    world.save()
    for first, second in (("add b", "add c"), ("add b", "del a"), ("del a", "add b")):
        for number in range(1, world.calls(first) + 1):
            world.restore()
            one = world.start(first, stand_at=number)
            event = one.event()
            while event == "waits":
                event = one.event()
            when = f'"{second}" came when "{first}" was before {one.stands_at}: '
            two = world.start(second)
            two.event()
            if event == "stands":
                one.go_on()
            for running, call in ((one, first), (two, second)):
                check_end(running, call, when)
            told = {"a": (had, "")}
            for running, call in ((one, first), (two, second)):
                told[call[4:]] = (running.said("out"), call)
            holders = {name: text for name, (text, call) in told.items() if not call.startswith("del")}
            for name, text in holders.items():
                world.address(text, f"add {name}", when)
                both = [other for other, its in holders.items() if its == text]
                if len(both) > 1:
                    raise WrongError(f"{when}{both[0]} and {both[1]} were both told {text}")
            world.verify(holders, when)


def killed(world):
    """It is killed, and the runtime tries again or gives up."""
    had = {name: world.add(name) for name in ("a", "b")}
    world.save()
    for call, then in (("add c", "add c"), ("add c", "del c"), ("del b", "del b")):
        for number in range(1, world.calls(call) + 1):
            world.restore()
            one = world.start(call, kill_at=number)
            one.end()
            when = f'"{call}" was killed {"when" if "half done" in one.stands_at else "before"} {one.stands_at}; then '
            world.run(then, when)
            holders = dict(had) if call == "add c" else {"a": had["a"]}
            world.verify(holders | ({"c": None} if then == "add c" else {}), when)


TESTS = {"alone": alone, "together": together, "killed": killed}


def main(what, file, subnet):
    """Judge; returns the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            if not Path(file).is_file():
                raise WrongError(f"there is no file {file}; udplane lab reset puts it back")
            world = World(str(Path(file).resolve()), subnet, Path(directory).resolve())
            TESTS[what](world)
        except WrongError as wrong:
            print(wrong)
            return 1
    print(f"right: {what}, {world.program.n} calls")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in TESTS:
        sys.exit(f"usage: judge.py {'|'.join(TESTS)} FILE SUBNET")
    sys.exit(main(*sys.argv[1:]))
