"""When the warm interpreter ends, and what it leaves: nothing, however it ends.

See tests/cni/test_warm.py for what it does while it lives.
"""

from __future__ import annotations

import fcntl
import shlex
import sys
from pathlib import Path

import pytest

from cni.install import main
from cni.lib import warm_start
from tests.cni.test_warm import (
    COLD,
    IDLE_SECONDS,
    eventually,
    is_listening,
    keep_warm,
    start_cold_visibly,
    warm_processes,
    warm_up,
)
from tests.cni.world.world import BIN_DIR, World, install_plugins


def test_it_ends_when_nobody_calls(tmp_path: Path) -> None:
    with World(keep_warm(tmp_path, 1)) as node:
        warm_up(node)
        eventually(lambda: not is_listening(node) and not warm_processes(node))
        assert node.run("test", "-e", "/run/udplane-cni").exit != 0
        warm_up(node)


def test_after_an_upgrade_no_call_is_served(tmp_path: Path) -> None:
    """On a busy node there is always a call sooner than the look whether this is still the interpreter to be."""
    with World(keep_warm(tmp_path, IDLE_SECONDS)) as node:
        node.sh(f"ln -s {shlex.quote(sys.executable)} /run/python")
        node.sh(f"sed -i '1s,.*,#!/run/python -IS,' {BIN_DIR}/.udplane/start")
        warm_up(node)
        start_cold_visibly(node)
        node.sh("ln -sfn /bin/true /run/python")
        assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == COLD
        eventually(lambda: not warm_processes(node))


def test_what_a_killed_one_leaves_goes_with_the_next(tmp_path: Path) -> None:
    bin_dir = keep_warm(tmp_path, IDLE_SECONDS)
    with World(bin_dir) as node:
        warm_up(node)
        node.sh(f"kill -9 {warm_processes(node)[0]}")
        left = node.sh("ls /run/udplane-cni")
        install_plugins(bin_dir, "--keep-warm", str(IDLE_SECONDS + 1))
        warm_up(node)
        assert len(left.split()) == 2
        assert not set(left.split()) & set(node.sh("ls /run/udplane-cni").split())


def test_what_a_killed_one_leaves_goes_with_the_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A living one's files stay, and so does a directory that is not its owner's alone."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setattr("cni.install.WARM_DIRECTORY", str(run))
    for name in ("killed", "killed.lock", "alive", "alive.lock"):
        (run / name).touch()
    with (run / "alive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["--bin-dir", str(tmp_path / "bin"), "--uninstall"]) == 0
    assert sorted(path.name for path in run.iterdir()) == ["alive", "alive.lock"]
    run.chmod(0o755)
    assert main(["--bin-dir", str(tmp_path / "bin"), "--uninstall"]) == 0
    assert len(list(run.iterdir())) == 2
    run.chmod(0o700)
    assert main(["--bin-dir", str(tmp_path / "bin"), "--uninstall"]) == 0
    assert not run.exists()


def test_a_lock_that_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter before ends, and removes its lock, between opening and locking it."""
    path = str(tmp_path / "warm")
    tmp_path.chmod(0o700)
    locking = fcntl.flock

    def remove_first(fd: int, how: int) -> None:
        Path(f"{path}.lock").unlink()
        locking(fd, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with pytest.raises(FileNotFoundError):
        warm_start._take_lock(path)


UPGRADES = {
    "other plugins": f"ln -sfn /run/udplane-cni/another {BIN_DIR}/.udplane/warm",
    "no plugins": f"rm -r {BIN_DIR}/.udplane",
    "another interpreter": "ln -sfn /bin/true /run/python",
    "a socket that was removed": "rm -r /run/udplane-cni",
}


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_it_ends_when_nobody_can_call(upgrade: str, tmp_path: Path) -> None:
    """Long before it has been idle for its time: what it has loaded may be another version's."""
    bin_dir = keep_warm(tmp_path, IDLE_SECONDS)
    with World(bin_dir) as node:
        node.sh(f"ln -s {shlex.quote(sys.executable)} /run/python")
        node.sh(f"sed -i '1s,.*,#!/run/python -IS,' {BIN_DIR}/.udplane/start")
        warm_up(node)
        node.sh(UPGRADES[upgrade])
        eventually(lambda: not warm_processes(node))


def test_an_upgrade_brings_a_new_one(tmp_path: Path) -> None:
    bin_dir = keep_warm(tmp_path, IDLE_SECONDS)
    with World(bin_dir) as node:
        warm_up(node)
        old = warm_processes(node)
        install_plugins(bin_dir, "--keep-warm", str(IDLE_SECONDS + 1))
        assert node.run(f"{BIN_DIR}/static", env={"CNI_COMMAND": "VERSION"}).exit == 0
        eventually(lambda: len(warm_processes(node)) == 1 and warm_processes(node) != old)
