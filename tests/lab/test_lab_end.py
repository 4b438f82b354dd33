"""Labs end, in whatever way, and nothing is left: no process, namespace, mount or file."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataplane.lab import state
from tests.lab.labs import Labs, in_use, labs, namespaces_of, of_ordinary_user
from tests.waiting import wait_until

ONE_NODE = '[nodes.node1]\npods = ["pod1"]\n'
TINY = "[nodes.node1]\nudplane = false\n"

N_LABS = int(os.environ.get("UDPLANE_LABS", "3"))
"""How many labs stand side by side; twenty take half a minute on two processors."""


@pytest.fixture
def lab(tun_device: None) -> Iterator[Labs]:
    with labs() as found:
        yield found


def small(lab: Labs) -> str:
    """A node with a pod."""
    return lab.topology(ONE_NODE)


def tiny(lab: Labs) -> str:
    """As little as there can be, for what does not depend on what is in a lab."""
    return lab.topology(TINY, "tiny.toml")


def expect_nothing(lab: Labs, before: dict[str, object], namespaces: set[str]) -> None:
    """Wait until all of a lab is gone; what a killed keeper leaves in files goes with the next command."""
    wait_until(lambda: not lab.processes(), "every process to end")
    lab.run("list")
    assert lab.traces() == before
    wait_until(lambda: not in_use(namespaces), "the namespaces to be empty")


def killed_keeper(lab: Labs) -> None:
    os.kill(lab.keeper(), signal.SIGKILL)


def killed_parent(lab: Labs) -> None:
    """unshare(1), which waits for the keeper."""
    status = Path(f"/proc/{lab.keeper()}/status").read_text()
    os.kill(int(re.findall(r"PPid:\t(\d+)", status)[0]), signal.SIGKILL)


def ended_keeper(lab: Labs) -> None:
    os.kill(lab.keeper(), signal.SIGTERM)


def killed_node(lab: Labs) -> None:
    (node,) = (p for p in lab.processes() if b"\0up\0" in Path(f"/proc/{p}/cmdline").read_bytes())
    os.kill(node, signal.SIGKILL)
    lab.run("down")


def taken_down(lab: Labs) -> None:
    lab.run("down")


@pytest.mark.parametrize("end", [killed_keeper, killed_parent, ended_keeper, killed_node, taken_down])
def test_nothing_is_left(lab: Labs, end: Callable[[Labs], None]) -> None:
    before = lab.traces()
    lab.up(small(lab))
    sleeper = lab.start("exec", "pod1", "sleep", "1000")
    wait_until(lambda: b"sleep\x001000" in b"".join(lab.command_lines()), "the sleeper to be inside")
    namespaces = namespaces_of(lab.keeper()) - namespaces_of(os.getpid())
    assert namespaces
    end(lab)
    sleeper.communicate(timeout=30)
    expect_nothing(lab, before, namespaces)


def test_a_dead_keeper_is_told_and_makes_room(lab: Labs) -> None:
    lab.up(tiny(lab))
    killed_keeper(lab)
    wait_until(lambda: not lab.processes(), "every process to end")
    (row,) = json.loads(lab.run("list", "--json").stdout)["labs"]
    assert row["state"] == "dead, cleared away"
    assert json.loads(lab.run("list", "--json").stdout)["labs"] == []


def test_the_name_of_a_dead_lab_is_free_at_once(lab: Labs) -> None:
    lab.up(tiny(lab))
    killed_keeper(lab)
    lab.up(tiny(lab))
    lab.run("exec", "node1", "true")


def test_a_record_of_another_process_ends_nobody(lab: Labs) -> None:
    """Process ids are used again."""
    lab.up(tiny(lab))
    killed_keeper(lab)
    wait_until(lambda: not lab.processes(), "every process to end")
    with subprocess.Popen(["sleep", "1000"]) as other:
        file = lab.directory / "default" / state.RECORD
        file.write_text(json.dumps({**json.loads(file.read_bytes()), "pid": other.pid}))
        assert lab.run("exec", "node1", "true", status=1).stderr.startswith("udplane: no lab called default stands")
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing(lab: Labs, number: signal.Signals) -> None:
    before = lab.traces()
    coming = lab.start("up", small(lab))
    wait_until(lambda: b"\0up\0" in b"".join(lab.command_lines()) and len(lab.processes()) > 3, "the node to start")
    coming.send_signal(number)
    _, errors = coming.communicate(timeout=30)
    assert coming.returncode != 0
    assert "Traceback" not in errors
    expect_nothing(lab, before, set())


def test_a_lab_that_cannot_be_built_says_why_and_leaves_nothing(lab: Labs) -> None:
    before = lab.traces()
    text = '[nodes.node1]\nflags = ["--mistake"]\n'
    done = lab.run("up", lab.topology(text), status=1)
    assert "udplane on node1" in done.stderr
    assert "--mistake" in done.stderr
    expect_nothing(lab, before, set())


def test_what_breaks_a_lab_has_to_work_itself(lab: Labs) -> None:
    text = ONE_NODE + '[[broken]]\nwhere = "pod1"\nrun = "ip link del nothing"\n'
    done = lab.run("up", lab.topology(text), status=1)
    assert re.search(r"mine.toml:3: `ip link del nothing` in pod1 failed: Cannot find", done.stderr)


@pytest.mark.parametrize("stay", [False, True])
def test_a_lab_goes_with_its_terminal_unless_it_is_to_stay(lab: Labs, stay: bool) -> None:
    before = lab.traces()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "-i"], lab.environment)
    command = lab.command("up", tiny(lab), *(["--stay"] if stay else []))
    os.write(terminal, f"{shlex.join(command)}; echo done-$((6 * 7))\n".encode())
    seen = b""
    while b"done-42" not in seen:
        seen += os.read(terminal, 65536)
    wait_until(lambda: b"keeper_init" in b"".join(lab.command_lines()), "the lab to stand by itself")
    assert (b"terminal is closed" in seen) != stay
    os.close(terminal)
    os.waitpid(pid, 0)
    if stay:
        lab.run("exec", "node1", "true")
        lab.run("down")
    expect_nothing(lab, before, set())


def test_labs_stand_side_by_side(lab: Labs) -> None:
    before = lab.traces()
    names = [f"lab{number}" for number in range(N_LABS)]
    file = tiny(lab)
    with ThreadPoolExecutor(len(names)) as pool:
        views = list(pool.map(lambda name: lab.up(file, name=name), names))
    assert [view.name for view in views] == names
    assert [row["state"] for row in json.loads(lab.run("list", "--json").stdout)["labs"]] == ["stands"] * len(names)
    homes = {lab.run("exec", "--lab", name, "node1", "readlink", "/proc/self/ns/net").stdout for name in names}
    assert len(homes) == len(names)
    assert "no lab called default stands; there are lab0" in lab.run("status", status=1).stderr
    inside = "udplane lab list --json; udplane lab status --lab lab0"
    done = lab.run("exec", "--lab", "lab1", "node1", "sh", "-c", inside, status=1)
    assert [row["name"] for row in json.loads(done.stdout)["labs"]] == ["lab1"]
    assert "no lab called lab0 stands" in done.stderr
    lab.environment["UDPLANE_LAB"] = "lab1"
    assert "lab lab1, topology tiny" in lab.run("status").stdout
    lab.run("down", "--all")
    expect_nothing(lab, before, set())


def test_two_who_want_one_name_get_one_lab(lab: Labs) -> None:
    file = tiny(lab)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: lab.run("up", file, status=None), range(4)))
    assert sorted(one.returncode for one in done) == [0, 1, 1, 1]
    assert all("stands already" in one.stderr for one in done if one.returncode)
    lab.run("exec", "node1", "true")


def test_a_directory_that_others_can_write_is_not_used(lab: Labs) -> None:
    lab.directory.mkdir()
    lab.directory.chmod(0o777)
    assert "others may write into" in lab.run("list", status=1).stderr
    lab.directory.rmdir()
    lab.directory.symlink_to("/tmp")
    assert "is no directory of this user's" in lab.run("list", status=1).stderr
    lab.directory.unlink()
    lab.environment["UDPLANE_LAB_DIR"] = "/run/labs"
    assert "a lab has a /run of its own" in lab.run("list", status=1).stderr


@pytest.fixture
def ordinary(lab: Labs) -> Labs:
    """The same labs, but of an ordinary user."""
    return of_ordinary_user(lab)


def test_an_ordinary_user_has_labs_too(ordinary: Labs) -> None:
    before = ordinary.traces()
    ordinary.run("up", ordinary.topology(ONE_NODE))
    try:
        assert ordinary.run("exec", "pod1", "id", "-u").stdout == "0\n"
        assert '"uid":0' not in ordinary.run("list", "--json").stdout
        status = json.loads(ordinary.run("status", "--json").stdout)
        assert (status["nodes"], bool(status["keeper"]["users"])) == ({"node1": "ready"}, True)
        assert "no_route" in ordinary.run("inject", "pod1", "IP(dst='10.254.200.1')/UDP()").stdout
        namespaces = namespaces_of(ordinary.keeper())
        assert Path(f"/proc/{ordinary.keeper()}").stat().st_uid == 65534
    finally:
        os.kill(ordinary.keeper(), signal.SIGKILL)
    expect_nothing(ordinary, before, namespaces - namespaces_of(os.getpid()))


def test_without_a_fresh_proc_the_next_command_ends_what_is_left(ordinary: Labs) -> None:
    """As in a container, which covers parts of /proc: the kernel gives no other one then."""
    covered = "mount -t tmpfs tmpfs /proc/irq; "
    where = ordinary.prefix.index("-euc") + 1
    ordinary.prefix[where] = covered + ordinary.prefix[where]
    before = ordinary.traces()
    ordinary.run("up", ordinary.topology(ONE_NODE))
    sleeper = ordinary.start("exec", "pod1", "sleep", "1000")
    wait_until(lambda: b"sleep\x001000" in b"".join(ordinary.command_lines()), "the sleeper to be inside")
    record = json.loads((ordinary.directory / "default" / state.RECORD).read_bytes())
    assert not record["pids"]
    os.kill(record["pid"], signal.SIGKILL)
    wait_until(lambda: b"\0up\0" not in b"".join(ordinary.command_lines()), "the node to end with its keeper")
    ordinary.run("list")
    sleeper.communicate(timeout=30)
    expect_nothing(ordinary, before, set())


def test_an_ordinary_user_who_may_not_is_told_why(ordinary: Labs) -> None:
    closed = 'chmod 600 "$directory/tun" /dev/net/tun; '
    where = ordinary.prefix.index("-euc") + 1
    ordinary.prefix[where] = ordinary.prefix[where].replace("umask 077", closed + "umask 077")
    done = ordinary.run("up", status=1)
    assert re.search(r"this user may not open /dev/net/tun. What helps:\n  - .*setfacl", done.stderr)
    assert list(ordinary.directory.iterdir()) == []
