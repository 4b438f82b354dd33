"""Private namespaces: empty inside, invisible outside, and the ways out named where they are not to be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.lab import private


def run_privately(*argv: str, state: str | None = None, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != private.STATE}
    environment |= {"PATH": path} if path else {}
    if state:
        environment[private.STATE] = state
    command = [sys.executable, "-I", "-m", private.MODULE, *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_inside_there_is_a_loopback_and_an_empty_run(tun_device: None) -> None:
    done = run_privately("sh", "-c", "ip -oneline link; ls /run; ip netns add udpprivate; ip netns list")
    assert done.stderr == ""
    link, directory, name = done.stdout.splitlines()
    assert ("lo:" in link, directory, name) == (True, "netns", "udpprivate")
    assert not Path("/run/netns/udpprivate").exists()


def test_inside_one_can_tell_whether_the_users_are_ones_own(tun_device: None) -> None:
    done = run_privately(sys.executable, "-I", "-c", f"from {private.MODULE} import *; print(has_own_users())")
    assert done.stdout.strip() == str("--user" in private.unshare_flags()[0])


def test_inside_again_changes_nothing(tun_device: None) -> None:
    done = run_privately("readlink", "/proc/self/ns/net", state=private.INSIDE)
    assert done.stdout.strip() == str(Path("/proc/self/ns/net").readlink())


def test_programs_for_administrators_are_found_inside(tun_device: None, tmp_path: Path) -> None:
    """An ordinary user's PATH may lack their directories, as on Debian."""
    for program in ("unshare", "true", "mount", "mkdir", "sh"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    done = run_privately("sh", "-c", "command -v ip && command -v nft && echo $PATH", path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{tmp_path}:/usr/sbin:/sbin"


def test_the_exit_status_is_the_programs() -> None:
    assert run_privately("sh", "-c", "exit 7", state=private.INSIDE).returncode == 7


def test_a_program_that_is_not_there_is_one_line() -> None:
    done = run_privately("no-such-program", state=private.INSIDE)
    assert done.returncode == 1
    assert "cannot run no-such-program" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_program_is_wrong_usage() -> None:
    done = run_privately()
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")


def test_a_kernel_that_forbids_user_namespaces_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(private, "unshare_flags", lambda: ([], "`unshare` says: no"))
    sysctl = tmp_path / "apparmor_restrict_unprivileged_userns"
    sysctl.write_text("1\n")
    monkeypatch.setattr(private, "USER_NAMESPACE_SYSCTLS", [(str(sysctl), "1", "0")])
    assert private.enter(["true"]) == 1
    message = capsys.readouterr().err
    assert "no network namespace can be made here: `unshare` says: no" in message
    assert "apparmor_restrict_unprivileged_userns=0" in message
    assert ("as root" in message) == (os.geteuid() != 0)


@pytest.mark.parametrize(
    ("says", "advice"),
    [("unshare: cannot change root filesystem propagation: Invalid argument", "this is a chroot"), ("", "util-linux")],
)
def test_an_unshare_that_fails_is_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, says: str, advice: str
) -> None:
    if says:
        (tmp_path / "unshare").write_text(f"#!/bin/sh\necho '{says}' >&2; exit 1\n")
        (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert private.enter(["true"]) == 1
    message = capsys.readouterr().err
    assert says in message
    assert advice in message


@pytest.mark.parametrize(("name", "advice"), [("absent", "modprobe tun"), ("closed", "setfacl")])
def test_a_tun_device_out_of_reach_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, advice: str
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied") if name == "closed" else FileNotFoundError(2, "No such file")

    monkeypatch.setattr(private, "unshare_flags", lambda: ([], ""))
    monkeypatch.setattr(os, "open", refuse)
    assert private.enter(["true"]) == 1
    assert advice in capsys.readouterr().err
