"""The interpreter that is kept warm: the same answers as without it, and never in the way.

Each test has a World (tests/cni/world) with plugins that keep an interpreter warm for a time of the test's choice. What
starts the long way is told apart by replacing the script that it goes through: the replacement says "cold" and exits
with 77.
"""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni.install import PROGRAM, main
from cni.lib import warm_caller
from tests.cni.node import HOST_LOCAL, call, conf, links, refused, reservations
from tests.cni.world.world import BIN_DIR, REPO, World, cni_env, install_plugins, require_world

START = f"{BIN_DIR}/.udplane/start"
COLD = 77
IDLE_SECONDS = 60
SLOW_IPAM = "#!/bin/sh\necho $PPID > /run/plugin.pid\nexec sleep 60\n"


def require_warm() -> None:
    """Skip the calling test, with the remedy, where no interpreter can be kept warm."""
    require_world()
    if not (REPO / "cni" / PROGRAM).exists():
        pytest.skip("the launcher is not compiled: pip install -e .")
    if "\nSeccomp:\t0\n" not in Path("/proc/self/status").read_text():
        pytest.skip("system calls are filtered here, so nothing is kept warm: run without a seccomp profile")


def keep_warm(tmp_path: Path, seconds: int) -> Path:
    require_warm()
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    return install_plugins(bin_dir, "--keep-warm", str(seconds))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[World]:
    """A node whose warm interpreter is up, so that nothing needs the long way any more."""
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as world:
        world.reset("p1", "p2")
        warm_up(world)
        start_cold_visibly(world)
        yield world


def start_cold_visibly(node: World) -> None:
    """From now on whoever takes the long way says so and does nothing."""
    node.write(f"{START}.new", f"#!/bin/sh\necho cold >&2\nexit {COLD}\n")
    node.sh(f"chmod +x {START}.new && mv {START} {START}.real && mv {START}.new {START}")


def warm_up(node: World) -> None:
    version = node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
    assert (version.exit, json.loads(version.stdout)["cniVersion"]) == (0, "1.1.0")
    eventually(lambda: len(warm_processes(node)) == 1 and is_listening(node))


def is_listening(node: World) -> bool:
    return node.run("sh", "-c", f'test -S "$(readlink {BIN_DIR}/.udplane/warm)"').exit == 0


def warm_processes(node: World) -> list[str]:
    """Process IDs of warm interpreters, without the copies that are plugins at the moment."""
    return node.sh("pgrep -f cni.lib.[w]arm -P 1 || true").split()


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def start_slow_add(node: World) -> int:
    """Begin an ADD that hangs in its IPAM plugin; the process ID of its launcher."""
    node.write(f"{BIN_DIR}/slow", SLOW_IPAM)
    node.write("/run/slow.json", json.dumps(conf("bridge", ipam={"type": "slow"})))
    node.sh(f"chmod +x {BIN_DIR}/slow")
    command = ["sh", "-c", f"exec {BIN_DIR}/bridge < /run/slow.json"]
    pid = node.start(*command, log="/run/launcher.log", env=cni_env("ADD"))
    eventually(lambda: node.run("test", "-s", "/run/plugin.pid").exit == 0)
    return pid


def exit_status(node: World, pid: int) -> int:
    """How a launcher that `start_slow_add` began ends by itself; negative: the signal."""
    eventually(lambda: node.run("grep", "-q", "^State:.Z", f"/proc/{pid}/status").exit == 0)
    return node.stop(pid)


def test_a_pod_is_wired_and_unwired(node: World) -> None:
    netconf = conf("bridge", isGateway=True, ipMasq=True, ipam=HOST_LOCAL)
    result = call(node, "ADD", netconf)
    assert result["ips"][0]["address"] == "10.9.0.2/24"
    assert len(reservations(node)) == 1
    call(node, "CHECK", {**netconf, "prevResult": result})
    call(node, "DEL", netconf)
    assert reservations(node) == []
    assert [name for name in links(node) if name.startswith("veth")] == []


def test_errors_are_the_plugins_own(node: World) -> None:
    assert refused(node, "ADD", conf("bridge"), CNI_NETNS="/nowhere")["msg"].startswith("failed to open netns")
    assert refused(node, "ADD", conf("static"), CNI_IFNAME="")["code"] == 4


def test_what_a_person_gets_who_calls_it_by_hand(node: World) -> None:
    done = node.run(f"{BIN_DIR}/bridge")
    assert (done.exit, done.stdout) == (0, "")
    assert done.stderr.startswith("CNI bridge plugin of udplane\n")


def test_the_environment_is_the_callers(node: World) -> None:
    netconf = conf("static", ipam={"type": "static"})
    result = call(node, "ADD", netconf, CNI_ARGS="IP=10.1.2.3/24;GATEWAY=10.1.2.1")
    assert result["ips"][0] == {"address": "10.1.2.3/24", "gateway": "10.1.2.1"}
    assert "ips" not in call(node, "ADD", netconf)  # nothing is left of the call before it


def test_somebody_elses_namespace_is_somebody_elses(node: World) -> None:
    """The warm interpreter would work on its own node; so it turns such callers away."""
    for option in ("--net", "--mount", "--pid"):
        done = node.run("unshare", "--fork", option, f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
        assert done.exit == COLD, option


def test_somebody_with_fewer_rights_does_not_get_more(node: World) -> None:
    lesser = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = node.run(*lesser, f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
    assert done.exit == COLD


def test_another_user_is_no_root(node: World) -> None:
    done = node.run("setpriv", "--reuid", "1", "--clear-groups", f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
    assert done.exit != 0
    assert "cniVersion" not in done.stdout


def test_odd_requests_do_it_no_harm(node: World) -> None:
    """Connections that say nothing, too much, or no descriptors."""
    code = (
        "import os, socket, sys\n"
        "path = os.readlink(sys.argv[1])\n"
        "for data in (b'', b'x', b'x\\0' * 9, b'\\0' * 60000, b'\\xff' * 60000):\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "    s.connect(path)\n"
        "    s.send(data)\n"
        "    assert s.recv(4) == b'', data\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(path)\n"
        "socket.send_fds(s, [b'/opt/cni/bin/static\\0'], [0] * 7)\n"
        "assert s.recv(4) == b''\n"
    )
    assert node.run("python3", "-c", code, f"{BIN_DIR}/.udplane/warm").exit == 0
    assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == 0


def test_a_long_environment_goes_the_long_way(node: World) -> None:
    done = node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION", "LONG": "x" * 70000})
    assert done.exit == COLD


def test_a_launcher_that_is_killed_takes_its_work_with_it(node: World) -> None:
    pid = start_slow_add(node)
    node.sh(f"kill -9 {pid}")
    eventually(lambda: node.run("sh", "-c", "kill -0 $(cat /run/plugin.pid)").exit != 0)
    assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == 0


def test_work_that_is_killed_looks_so(node: World) -> None:
    pid = start_slow_add(node)
    node.sh("kill -9 $(cat /run/plugin.pid)")
    assert exit_status(node, pid) == -9


def test_a_launcher_whose_warm_interpreter_is_killed_says_so(node: World) -> None:
    pid = start_slow_add(node)
    node.sh(f"kill -9 {warm_processes(node)[0]}; kill -9 $(cat /run/plugin.pid)")
    assert exit_status(node, pid) == 1
    assert json.loads(node.sh("cat /run/launcher.log"))["code"] == 11


def test_a_warm_interpreter_that_is_stopped_is_given_up(tmp_path: Path) -> None:
    """By a launcher that waits for a second: nobody waits for its output any longer, and the work is done."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc libc6-dev")
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.reset("p1")
        warm_up(node)
        (pid,) = warm_processes(node)
        launcher = REPO / "native" / "cni" / "launcher.c"
        node.sh(f"gcc -D_GNU_SOURCE -DPATIENCE_SECONDS=1 -o {BIN_DIR}/impatient {shlex.quote(str(launcher))}")
        node.sh(f"mv {BIN_DIR}/impatient {BIN_DIR}/static; kill -STOP {pid}")
        version = node.sh(f"CNI_COMMAND=VERSION timeout 20 {BIN_DIR}/static | cat")
        assert json.loads(version)["cniVersion"] == "1.1.0"
        assert pid not in warm_processes(node)
        eventually(lambda: len(warm_processes(node)) == 1)


def test_after_it_was_killed_the_next_call_brings_another(node: World) -> None:
    first = warm_processes(node)
    node.sh(f"mv {START}.real {START}; kill -9 {first[0]}")
    eventually(lambda: warm_processes(node) == [])
    warm_up(node)
    assert warm_processes(node) != first


def test_many_that_begin_at_once_bring_one(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        calls = "for n in $(seq 20); do CNI_COMMAND=VERSION /opt/cni/bin/static > /run/answer$n & done; wait; ls /run"
        assert node.sh(calls).count("answer") == 20
        eventually(lambda: is_listening(node))
        assert len(warm_processes(node)) == 1
        assert node.sh("cat /run/answer*").count("cniVersion") == 20


def test_nobody_waits_for_it(tmp_path: Path) -> None:
    """Pipes that a runtime has left open in the first plugin end with that plugin."""
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.sh(f"(CNI_COMMAND=VERSION {BIN_DIR}/static 5>&1 >/dev/null) | timeout 20 cat")
        eventually(lambda: is_listening(node))


def test_a_first_caller_in_another_place_does_not_keep_the_others_cold(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        version = {"CNI_COMMAND": "VERSION"}
        assert node.run("unshare", "--mount", f"{BIN_DIR}/static", env=version).exit == 0
        eventually(lambda: is_listening(node))
        strange = warm_processes(node)

        def is_another_there() -> bool:
            assert node.run(f"{BIN_DIR}/static", env=version).exit == 0
            return warm_processes(node) != strange and is_listening(node)

        eventually(is_another_there)
        start_cold_visibly(node)
        assert node.run(f"{BIN_DIR}/static", env=version).exit == 0


def test_one_caller_in_another_place_does_not_end_it(node: World) -> None:
    for _ in range(3):
        assert node.run("unshare", "--mount", f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == COLD
        assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == 0


# struct sock_filter: allow every system call.
FILTERED = """
import ctypes, os, struct, sys
code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
program = struct.pack("@HP", 1, ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_whoever_is_filtered_starts_cold(node: World) -> None:
    """Filters are not to be seen, and one more may let pass less."""
    done = node.run("python3", "-c", FILTERED, f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
    assert (done.exit, done.stderr) == (COLD, "cold\n")


def test_whoever_is_filtered_brings_none(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        done = node.run("python3", "-c", FILTERED, f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"})
        assert done.exit == 0
        assert node.run("test", "-e", "/run/udplane-cni").exit != 0


# A variable that is there twice, and one without a value, which no Python program passes on.
TWICE = """
import ctypes, sys
environment = (ctypes.c_char_p * 4)(b"CNI_COMMAND=VERSION", b"CNI_COMMAND=ADD", b"CNI_PATH", None)
path = sys.argv[1].encode()
ctypes.CDLL(None).execve(path, (ctypes.c_char_p * 2)(path, None), environment)
"""


def test_of_two_values_of_a_variable_the_first_counts(node: World) -> None:
    """As for the official plugins, and for a plugin that starts cold."""
    done = node.run("python3", "-c", TWICE, f"{BIN_DIR}/static")
    assert (done.exit, json.loads(done.stdout)["cniVersion"]) == (0, "1.1.0")
    node.sh(f"mv {START}.real {START}; kill -9 {warm_processes(node)[0]}")
    assert node.run("python3", "-c", TWICE, f"{BIN_DIR}/static") == done


def test_a_limit_of_descriptors_is_lifted_as_far_as_the_kernel_lets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses "none" for this one limit, to whomever."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    limits = {resource.RLIMIT_NOFILE: (12, 12)}

    def set_limit(limit: int, wanted: tuple[int, int]) -> None:
        if not 0 <= wanted[1] <= most:
            raise ValueError("not allowed to raise maximum limit")
        limits[limit] = wanted

    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    warm_caller._lift(resource.RLIMIT_NOFILE)
    assert limits == {resource.RLIMIT_NOFILE: (most, most)}


def test_it_is_not_started_where_others_could_reach_it(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.sh("mkdir -m 777 /run/udplane-cni")
        assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == 0
        assert node.sh("ls /run/udplane-cni") == ""


def test_installing_without_it_takes_it_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bin_dir = keep_warm(tmp_path, IDLE_SECONDS)
    assert main(["--bin-dir", str(bin_dir), "--keep-warm", "0"]) == 0
    assert [path for path in (bin_dir / ".udplane").iterdir() if not path.is_dir()] == []
    assert (bin_dir / "static").read_text().startswith("#!")
    assert main(["--bin-dir", str(bin_dir)]) == 0
    assert (bin_dir / ".udplane" / "warm").is_symlink()
    assert main(["--bin-dir", str(bin_dir), "--uninstall"]) == 0
    assert list(bin_dir.iterdir()) == []


def test_wrong_seconds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("-1", "soon"):
        assert main(["--bin-dir", str(tmp_path), "--keep-warm", wrong]) == 2
    assert "--keep-warm" in capsys.readouterr().err


def test_a_package_without_the_launcher_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cni.install.PROGRAM", "there-is-none")
    assert main(["--bin-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err.startswith("note: every plugin starts an interpreter of its own")
    assert main(["--bin-dir", str(tmp_path), "--keep-warm", "9"]) == 1
    assert capsys.readouterr().err.startswith("udplane cni install: --keep-warm needs a launcher")
    assert (tmp_path / "static").read_text().startswith("#!")
    assert not (tmp_path / ".udplane" / "start").exists()


def test_a_launcher_whose_installation_is_gone_says_so(tmp_path: Path) -> None:
    bin_dir = keep_warm(tmp_path, IDLE_SECONDS)
    (bin_dir / ".udplane" / "start").unlink()
    (bin_dir / ".udplane" / "warm").unlink()
    done = subprocess.run([bin_dir / "static"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "install again with `udplane cni install`" in done.stderr
