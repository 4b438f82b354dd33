"""What the tests of the node share."""

import shlex
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from dataplane.lab.netns import Namespace
from dataplane.lab.overlay import UDPLANE, Daemon
from dataplane.lab.topology import Lab


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    """An underlay on which a test puts the nodes that it needs."""
    with Lab() as lab:
        yield lab


def udplane(netns: Namespace, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run the command in a namespace to its end."""
    return netns.run([str(UDPLANE), *arguments], check=False, timeout=timeout)


def curl(daemon: Daemon, path: str, *flags: str) -> str:
    """What curl gets from a node's control socket, which it finds by a short name: it takes no long one."""
    line = 'cd "$0" && exec curl -sS --unix-socket control.sock "$@"'
    argv = ["sh", "-c", line, str(daemon.directory / "run"), *flags, f"http://udplane{path}"]
    return daemon.node.netns.run(argv).stdout


def complaint(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """What a command that had to fail said: one line, and never a traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("udplane: ")]
    assert done.returncode == status, done
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def without(*programs: str) -> str:
    """The start of a shell line for a host on which these programs are not installed; a command finishes it.

    In /dev/null's place nothing can be run. A link is followed, so `iptables` hides all that is the same program.
    """
    hide = f"""for directory in $(echo "$PATH:/usr/sbin:/sbin" | tr : " "); do
        for program in {" ".join(programs)}; do
            [ ! -e "$directory/$program" ] || mount --bind /dev/null "$directory/$program"
        done
    done"""
    return "exec unshare --mount sh -ec " + shlex.quote(hide + '; exec "$0" "$@"')


def says(words: Sequence[str], text: str) -> bool:
    """Whether all of `words` are in `text`."""
    return all(word in text for word in words)
