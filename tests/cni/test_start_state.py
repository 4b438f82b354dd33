"""What a plugin's caller left behind in the process does not decide how the plugin works, cold or warm.

The callers are shells and `python3 -c` programs on a World (tests/cni/world) that spoil one thing and then run the
plugin. The probe is a foreign IPAM plugin, which writes down the state that the plugin gave it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.node import HOST_LOCAL, call, conf, links, reservations
from tests.cni.test_warm import (
    IDLE_SECONDS,
    START,
    eventually,
    exit_status,
    is_listening,
    keep_warm,
    start_slow_add,
    warm_processes,
    warm_up,
)
from tests.cni.world.world import BIN_DIR, Done, World, cni_env, install_plugins, require_world

KINDS = ["cold", "warm"]
LIBCS_OWN = 0b11 << 31  # signals 32 and 33, which the C library lets nobody change
PROBE = r"""#!/bin/sh
test $CNI_COMMAND = ADD || exit 0
{
  grep -E '^(SigBlk|SigIgn|Groups|Cpus_allowed_list)' /proc/self/status
  grep -E 'Max (file size|open files)' /proc/self/limits
  echo "umask $(umask)"; echo "nice $(nice)"; echo "oom $(cat /proc/self/oom_score_adj)"
} > /run/probe
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.9/24"}]}'
"""
BRIDGE = conf("bridge", isGateway=True, ipMasq=True, ipam=HOST_LOCAL)


@pytest.fixture(params=KINDS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A node, once with an interpreter that is kept warm."""
    require_world()
    is_warm = request.param == "warm"
    with World(keep_warm(tmp_path, IDLE_SECONDS) if is_warm else install_plugins(tmp_path)) as world:
        world.reset("p1", "p2")
        if is_warm:
            warm_up(world)
        yield world


def plugin(node: World, verb: str, netconf: dict[str, Any], *before: str) -> Done:
    """Run a plugin for pod p1; `before` is a program that runs it, for which it is the last argument."""
    return node.run(*before, f"{BIN_DIR}/{netconf['type']}", env=cni_env(verb), stdin=json.dumps(netconf))


def shell(line: str) -> tuple[str, ...]:
    """A shell line that runs the plugin as $0."""
    return ("sh", "-c", line)


def python(statement: str) -> tuple[str, ...]:
    """A program that executes a statement and then becomes the program in its arguments."""
    return ("python3", "-c", f"import os, resource, signal, sys\n{statement}\nos.execvp(sys.argv[1], sys.argv[1:])")


LARGEST_NICENESS = 19
IGNORING = python("for s in (2, 13, 15, 17, 25): signal.signal(s, signal.SIG_IGN)")
BLOCKING = python("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))")


@pytest.mark.parametrize("spoil", [IGNORING, BLOCKING], ids=["ignored", "blocked"])
def test_signals_that_the_caller_ignores_or_blocks(node: World, spoil: tuple[str, ...]) -> None:
    """Where SIGCHLD is ignored, the end of iptables is not to be learnt."""
    done = plugin(node, "ADD", BRIDGE, *spoil)
    assert done.exit == 0, done
    assert "MASQUERADE" in node.sh("iptables-save")
    done = plugin(node, "DEL", BRIDGE, *spoil)
    assert done.exit == 0, done
    assert "CNI-" not in node.sh("iptables-save")
    assert reservations(node) == []


def probe(node: World, *before: str) -> dict[str, str]:
    """The state in which a program finds itself that a plugin runs."""
    node.write(f"{BIN_DIR}/probe", PROBE)
    node.sh(f"chmod +x {BIN_DIR}/probe; rm -f /run/probe")
    netconf = conf("bridge", bridge="br1", ipam={"type": "probe"})
    done = plugin(node, "ADD", netconf, *before)
    plugin(node, "DEL", netconf)
    assert done.exit == 0, done
    lines = node.sh("cat /run/probe").replace(":", " ").splitlines()
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_what_is_known_and_what_is_the_callers(node: World) -> None:
    """Signals and umask are known; limits, niceness, processors and groups the caller's, of each call anew."""
    plain = probe(node)
    assert plain["umask"] == "0022"
    assert not int(plain["SigBlk"], 16)
    assert not int(plain["SigIgn"], 16) & ~LIBCS_OWN
    for umask in ("000", "077"):
        assert probe(node, *shell(f'umask {umask}; exec "$0" "$@"'), *IGNORING) == plain
    lines = (
        "os.nice(7); os.setgroups([5, 6]); os.sched_setaffinity(0, [0])",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (99, 199))",
        "open('/proc/self/oom_score_adj', 'w').write('321')",
    )
    spoilt = probe(node, *python("; ".join(lines)))
    assert spoilt["nice"] == str(min(int(plain["nice"]) + 7, LARGEST_NICENESS))
    assert spoilt["Groups"] == "5 6"
    assert spoilt["Cpus_allowed_list"] == "0"
    assert spoilt["oom"] == "321"
    assert spoilt["Max"] == "open files 99 199 files"
    assert probe(node) == plain


def test_directories_are_nobody_elses_to_write_to(node: World) -> None:
    netconf = conf("bridge", ipam={**HOST_LOCAL, "dataDir": "/var/lib/new/parent/networks"})
    assert plugin(node, "ADD", netconf, *shell('umask 000; exec "$0"')).exit == 0
    assert node.sh("find /var/lib/new ! -type l -perm /022") == ""


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_closed_descriptor_is_an_error_or_of_no_account(node: World, fd: int) -> None:
    netconf = conf("bridge", isGateway=True, ipam=HOST_LOCAL)
    closed = shell(f"timeout 20 $0 {fd}{'<' if fd == 0 else '>'}&-")
    done = plugin(node, "ADD", netconf, *closed)
    if fd == 2:
        assert done.json["ips"][0]["address"] == "10.9.0.2/24"
    else:  # nothing was begun
        assert done.exit == 1
        assert "error reading from stdin" in done.stdout if fd == 0 else "stdout is closed" in done.stderr
        assert reservations(node) == []
        assert "cni0" not in links(node)
        call(node, "ADD", netconf)
    done = plugin(node, "DEL", netconf, *closed)
    if fd == 0:
        assert done.exit == 1
        call(node, "DEL", netconf)
    else:
        assert done == Done(0, "", "")
    assert reservations(node) == []
    assert [name for name in links(node) if name.startswith("veth")] == []


@pytest.mark.parametrize(
    "spoil",
    [
        python("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); resource.setrlimit(resource.RLIMIT_CPU, (1, 1))"),
        python("os.nice(15); os.setgroups([7]); os.sched_setaffinity(0, [0]); os.umask(0o777)"),
        python("open('/proc/self/oom_score_adj', 'w').write('777')"),
        (*IGNORING, *BLOCKING),
    ],
    ids=["limits", "scheduling", "oom", "signals"],
)
def test_nothing_of_the_first_callers_stays_with_the_warm_interpreter(tmp_path: Path, spoil: tuple[str, ...]) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.reset("p1", "p2")
        plain = probe(node)
        for pid in warm_processes(node):
            node.sh(f"kill -9 {pid}")
        eventually(lambda: not warm_processes(node))
        version = node.run(*spoil, f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
        assert version.exit == 0
        eventually(lambda: is_listening(node))
        for pod in ("p1", "p2"):
            assert call(node, "ADD", BRIDGE, pod)["ips"]
        for pod in ("p1", "p2"):
            call(node, "DEL", BRIDGE, pod)
        assert probe(node) == plain


def test_a_warm_interpreter_with_less_than_its_caller_is_replaced(tmp_path: Path) -> None:
    """Where it lacks the right to take the caller's limits over, its copy does nothing, and it ends."""
    limited = python("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
    no_resource = ("setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource")
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        version = {"CNI_COMMAND": "VERSION"}
        assert node.run(*no_resource, *limited, f"{BIN_DIR}/static", env=version).exit == 0
        eventually(lambda: is_listening(node))
        (first,) = warm_processes(node)
        assert node.run(*no_resource, f"{BIN_DIR}/static", env=version).exit == 0
        eventually(lambda: first not in warm_processes(node))
        assert node.run(*no_resource, f"{BIN_DIR}/static", env=version).exit == 0
        eventually(lambda: is_listening(node))
        node.sh(f"mv {START} {START}.real")
        assert node.run(*no_resource, f"{BIN_DIR}/static", env=version).exit == 0


KILLED_WHILE_ITS_REQUEST_IS_READ = """
import os, signal, socket, subprocess, sys, time
path, (warm,) = os.readlink(sys.argv[1]), sys.argv[2:]
def n_open():
    return len(os.listdir(f"/proc/{warm}/fd"))
before = n_open()
os.kill(int(warm), signal.SIGSTOP)
reader, writer = os.pipe()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(path)
        socket.send_fds(s, [b"/opt/cni/bin/static\\0CNI_COMMAND=VERSION\\0"], [0, writer, writer, 0])
        os._exit(0)
    os.waitpid(pid, 0)
os.close(writer)
os.kill(int(warm), signal.SIGCONT)
assert os.read(reader, 1) == b""  # the end of the output
end = time.monotonic() + 20
while n_open() != before:
    assert time.monotonic() < end, (before, n_open())
"""


def test_launchers_that_are_killed_while_their_request_is_read_leave_nothing_open(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        warm_up(node)
        (pid,) = warm_processes(node)
        done = node.run(
            "timeout", "30", "python3", "-c", KILLED_WHILE_ITS_REQUEST_IS_READ, f"{BIN_DIR}/.udplane/warm", pid
        )
        assert (done.exit, done.stderr) == (0, "")


def test_work_keeps_nothing_of_the_warm_interpreter_or_of_other_calls(tmp_path: Path) -> None:
    """When that one is killed, others get another one, while the work goes on and its launcher waits for the end."""
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.reset("p1")
        warm_up(node)
        launcher = start_slow_add(node)
        node.sh(f"kill -9 {warm_processes(node)[0]}")
        node.sh(f"CNI_COMMAND=VERSION timeout 20 {BIN_DIR}/static")
        eventually(lambda: is_listening(node))
        assert node.run("grep", "-q", "^State:.Z", f"/proc/{launcher}/status").exit == 1
        node.sh("kill -9 $(cat /run/plugin.pid)")
        assert exit_status(node, launcher) == 1
        assert json.loads(node.sh("cat /run/launcher.log"))["code"] == 11
