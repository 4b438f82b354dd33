"""Programs of the host that the node runs: nft(8), iptables(8) and their like.

One that is missing and one that is there and fails are two things, and what is said of them differs: see `complaint`.
"""

import shutil
import subprocess
from collections.abc import Sequence

from dataplane.errors import NodeError

_SECONDS = 30


def installed(program: str) -> bool:
    """Whether there is a program of that name."""
    return shutil.which(program) is not None


def run(command: Sequence[str], text: str = "", *, check: bool = True, attempt: str = "") -> str:
    """Run a program with `text` on its stdin and return what it prints.

    If it fails, NodeError with its own words when `check`, else an empty text. `attempt` says what it was for.
    """
    done = execute(command, text)
    if check and done.returncode != 0:
        raise NodeError(f"{command[0]} refuses {attempt or 'its task'}: {reason(done)}")
    return done.stdout if done.returncode == 0 else ""


def complaint(command: Sequence[str]) -> str:
    """Why this command cannot be used: that it is missing, or what it said; empty when it succeeds."""
    if not installed(command[0]):
        return f"{command[0]} is not installed"
    done = execute(command, "")
    return "" if done.returncode == 0 else f"`{' '.join(command)}` says: {reason(done)}"


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed said first."""
    return (done.stderr.strip().splitlines() or [f"nothing, and exits with status {done.returncode}"])[0]


def execute(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is. NodeError if it cannot be run or takes too long."""
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"cannot run {command[0]}: {error}") from error
