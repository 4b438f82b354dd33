"""Labs for tests: the command as a user runs it, with a directory of its own, and nothing left at the end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.netns import NETNS_DIR
from dataplane.lab.overlay import UDPLANE
from dataplane.lab.view import LabView


class Labs:
    """The labs of one directory."""

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        """Keep labs in `directory`; `prefix` goes before every command line."""
        self.directory = directory
        self.prefix = list(prefix)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("UDPLANE_")}
        self.environment["UDPLANE_LAB_DIR"] = str(directory)

    def command(self, *arguments: str) -> list[str]:
        return [*self.prefix, str(UDPLANE), "lab", *arguments]

    def run(self, *arguments: str, stdin: str = "", status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb; its exit status has to be `status` if that is given, and it must never show a traceback."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert "Traceback" not in done.stderr
        assert status is None or done.returncode == status, (
            f"{arguments}: {done.returncode} {done.stdout} {done.stderr}"
        )
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def up(self, *arguments: str, name: str = "default") -> LabView:
        self.run("up", "--lab", name, *arguments)
        return LabView.read(self.directory / name)

    def keeper(self, name: str = "default") -> int:
        """The process that keeps a lab."""
        record: dict[str, Any] = json.loads((self.directory / name / "keeper.json").read_bytes())
        return int(record["pid"])

    def topology(self, text: str, name: str = "mine.toml") -> str:
        """A file with that topology."""
        file = self.directory.parent / name
        file.write_text(text)
        return str(file)

    def processes(self) -> set[int]:
        """The processes of these labs, wherever they are."""
        mark = os.fsencode(self.directory)
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (path / "cmdline").read_bytes() or mark in (path / "environ").read_bytes():
                    found.add(int(path.name))
        return found - {os.getpid()}

    def command_lines(self) -> list[bytes]:
        """What these processes were called with, a zero behind each word."""
        found = []
        for pid in self.processes():
            with suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        return found

    def traces(self) -> dict[str, Any]:
        """All that labs could leave behind: processes, files, mounts, and named namespaces."""
        return {
            "processes": self.processes(),
            "files": names_in(self.directory),
            "mounts": [
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.directory) in line
            ],
            "names": names_in(NETNS_DIR),
        }


def names_in(directory: Path) -> list[str]:
    """What lies in a directory, nothing if there is none."""
    return sorted(file.name for file in directory.iterdir()) if directory.exists() else []


@contextmanager
def labs() -> Iterator[Labs]:
    """Labs that go at the end of the block."""
    # Not pytest's directory: an ordinary user has to get there too. A blank and an umlaut, since students have those.
    parent = Path(tempfile.mkdtemp(prefix="udpläb "))
    parent.chmod(0o755)
    found = Labs(parent / "labs")
    try:
        yield found
    finally:
        found.run("down", "--all", status=None)
        shutil.rmtree(parent)


def namespaces_of(pid: int) -> set[str]:
    """The namespaces of a process."""
    return {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("net", "mnt", "pid_for_children")}


def in_use(namespaces: set[str]) -> set[str]:
    """Those of the namespaces that some process is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/*"):
        with suppress(OSError):
            found.add(str(path.readlink()))
    return found & namespaces


ORDINARY_USER = 65534
"""nobody"""

BECOME_ORDINARY = """
    python=$1 directory=$2
    shift 2
    # The interpreter may lie where only root can go: then there is nothing else to be seen in that place.
    if ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$python"; then
        hidden=/$(echo "$python" | cut -d / -f 2) below=/$(echo "$python" | cut -d / -f 2,3)
        mkdir -p "$directory/keep"
        mount --bind "$below" "$directory/keep"
        mount -t tmpfs -o mode=755 tmpfs "$hidden"
        mkdir "$below"
        mount --bind "$directory/keep" "$below"
        umount "$directory/keep"
    fi
    test -e "$directory/tun" || mknod -m 666 "$directory/tun" c 10 200
    mount --bind "$directory/tun" /dev/net/tun
    umask 077
    export HOME=/nonexistent TMPDIR="$directory"
    exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""


def as_ordinary_user(directory: Path) -> list[str]:
    """What goes before a command line to run it as nobody, who may open the TUN device; root alone can have it so."""
    python = str(Path(sys.executable).resolve())
    return ["unshare", "--mount", "bash", "-euc", BECOME_ORDINARY, "ordinary", python, str(directory)]


def of_ordinary_user(lab: Labs) -> Labs:
    """Labs beside those of `lab`, but of an ordinary user. Skips the test where that cannot be."""
    if os.geteuid() != 0 or "4294967295" not in Path("/proc/self/uid_map").read_text():
        pytest.skip("only root of the machine can become an ordinary user; the whole suite runs as one already")
    directory = lab.directory.parent / "home"
    directory.mkdir()
    os.chown(directory, ORDINARY_USER, ORDINARY_USER)
    found = Labs(directory / "labs", as_ordinary_user(directory))
    tried = subprocess.run([*found.prefix, str(UDPLANE), "--version"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"an ordinary user cannot run this checkout: {tried.stderr.strip()[-100:]}")
    namespaces = subprocess.run([*found.prefix, "unshare", "-Urn", "true"], capture_output=True, check=False)
    if namespaces.returncode != 0:
        pytest.skip("this kernel gives ordinary users no namespaces")
    return found
