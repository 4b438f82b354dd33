"""The inside of a World: one process that owns a network, a mount and a PID namespace and runs plugins in them.

Started by unshare(1), see world.py, it covers every directory that a CNI plugin writes to (/run,
/var/lib, /etc, /opt) with file systems of its own, then serves requests, one JSON object a line on standard input, one
JSON object a line back on standard output:

    reset     a fresh network namespace and empty state directories, as on a node that has just booted
    pod       a network namespace /run/netns/NAME, with nothing in it but a loopback that is down
    run       an executable, in the node's namespace or a pod's, with an environment and standard input
    start     a program that stays in the background until `stop`, or until the world ends
    settle    wait for the end of what killed programs left running
    snapshot  everything that a plugin could have changed: see `snapshot`

This file runs by path, in an interpreter that knows nothing of the checkout but what is beside it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[3]))
from tests.cni.world import observe
from tests.cni.world.observe import STATE_ROOTS, text

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
REMOVALS = 10

# What ./dev has unpacked instead of installing is on the inherited part.
SYSTEM_PATH = f"/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"

libc = ctypes.CDLL(None, use_errno=True)
running: dict[int, subprocess.Popen[bytes]] = {}  # what `start` started


def check(result: int, what: str) -> None:
    """Raise OSError with errno when a libc call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()), f"mount {target}")


def cover_directories(bin_dir: str) -> None:
    """Hide the machine's own state: from here on every path that a plugin writes to is private to this process."""
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    mount("tmpfs", "/opt", "tmpfs", data="mode=755")
    mount("tmpfs", "/var/lib", "tmpfs", data="mode=755")
    for name in ("/run/etc-upper", "/run/etc-work", "/run/netns", "/opt/cni/bin"):
        Path(name).mkdir(parents=True)
    mount("overlay", "/etc", "overlay", data="lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work")
    mount("tmpfs", "/run", "tmpfs", data="mode=755")  # the overlay keeps its layers on the first, now hidden, one
    Path("/run/netns").mkdir()
    mount(bin_dir, "/opt/cni/bin", "", MS_BIND)


def enter_new_netns() -> None:
    """Move this thread into a new network namespace, which is no router even where this machine is one."""
    check(libc.unshare(CLONE_NEWNET), "unshare")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0\n")


def reset() -> None:
    """Give this process a new network namespace and forget all state."""
    enter_new_netns()
    observe.forget_firewall()
    for pod in Path("/run/netns").iterdir():
        libc.umount2(str(pod).encode(), MNT_DETACH)
    for root in STATE_ROOTS:
        for entry in Path(root).iterdir() if Path(root).exists() else ():
            while os.path.ismount(entry) and libc.umount2(str(entry).encode(), MNT_DETACH) == 0:
                pass
            if entry.is_dir():
                remove_tree(entry)
            else:
                entry.unlink()
    for name in ("/run/netns", "/etc/cni", "/var/lib/cni"):
        Path(name).mkdir(parents=True, exist_ok=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def remove_tree(directory: Path) -> None:
    """Delete `directory`, in which a warm interpreter may put or remove its files meanwhile."""
    for tries_left in reversed(range(REMOVALS)):
        try:
            shutil.rmtree(directory)
        except OSError:
            if not directory.exists():
                return
            if not tries_left:
                raise
        else:
            return


def in_thread(work: Callable[[], Any]) -> Any:
    """Run `work` in a thread of its own, since a network namespace is a thread's; its exception is raised here."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            outcome.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def in_pod(pod: str | None, work: Callable[[], Any]) -> Any:
    """Run `work` in the namespace /run/netns/`pod`, or in the node's when `pod` is None."""
    if pod is None:
        return work()

    def enter_and_work() -> Any:
        with Path(f"/run/netns/{pod}").open("rb") as handle:
            check(libc.setns(handle.fileno(), CLONE_NEWNET), f"setns {pod}")
        return work()

    return in_thread(enter_and_work)


def make_pod(name: str) -> None:
    """Create the network namespace /run/netns/`name`."""
    path = f"/run/netns/{name}"

    def create() -> None:
        enter_new_netns()
        Path(path).touch()
        mount("/proc/thread-self/ns/net", path, "", MS_BIND)

    in_thread(create)


def run(argv: list[str], pod: str | None, env: dict[str, str], stdin: str, timeout: float) -> dict[str, Any]:
    """Run a program to its end. `env` is its whole environment, with a PATH added."""
    full = {"PATH": SYSTEM_PATH, **env}

    def to_the_end() -> dict[str, Any]:
        done = subprocess.run(argv, input=stdin.encode("utf-8", "surrogateescape"), env=full, capture_output=True,
                              timeout=timeout, check=False)  # fmt: skip
        return {"exit": done.returncode, "stdout": text(done.stdout), "stderr": text(done.stderr)}

    result: dict[str, Any] = in_pod(pod, to_the_end)
    return result


def start(argv: list[str], env: dict[str, str], log: str) -> int:
    """Start a program on the node, its output going to the file `log`; gives its process ID."""
    with Path(log).open("wb") as sink:
        process = subprocess.Popen(argv, env={"PATH": SYSTEM_PATH, **env}, stdin=subprocess.DEVNULL, stdout=sink,
                                   stderr=sink, start_new_session=True)  # fmt: skip
    running[process.pid] = process
    return process.pid


def stop(pid: int) -> int:
    """End a started program and give its exit status; one that does not heed SIGTERM for 10 s is killed."""
    process = running.pop(pid)
    process.terminate()
    try:
        return process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def settle() -> None:
    """Wait for orphans, which come to this process since it is the first of its PID namespace."""
    assert not running, "a started program would be waited for as well"
    while orphans := [pid for pid in children() if not is_warm(pid)]:
        os.waitpid(orphans[0], 0)


def children() -> list[int]:
    """Process IDs, those of processes included that have ended and that nobody has asked how."""
    lists = [task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir()]
    return [int(pid) for pid in " ".join(lists).split()]


def is_warm(pid: int) -> bool:
    """Whether this is the warm interpreter, which stays."""
    return b"from cni.lib.warm import main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def snapshot(pods: list[str], with_sysctls: bool = True) -> dict[str, Any]:
    """Links, addresses, routes, queueing and sysctls of each namespace, the node's firewall rules, the state files.

    The sysctls, of which there are thousands, take most of the time; they are left out unless they are asked for.
    """
    return {
        "netns": {pod or "node": in_pod(pod or None, lambda: observe.network(with_sysctls)) for pod in ["", *pods]},
        "rules": observe.firewall(),
        "files": observe.state_files(),
    }


def answer(request: dict[str, Any]) -> Any:
    """Carry out one request; see the module docstring."""
    match request.pop("op"):
        case "reset":
            return reset()
        case "pod":
            return make_pod(**request)
        case "run":
            return run(**request)
        case "start":
            return start(**request)
        case "stop":
            return stop(**request)
        case "settle":
            return settle()
        case "snapshot":
            return snapshot(**request)
        case unknown:
            raise ValueError(f"unknown operation {unknown}")


def main() -> None:
    """Serve requests until standard input ends."""
    cover_directories(sys.argv[1])
    os.umask(0o022)  # as container runtimes have it; the official plugins go by their caller's
    for line in sys.stdin:
        try:
            reply = {"value": answer(json.loads(line))}
        except Exception:  # noqa: BLE001 - the test that asked gets the whole story
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), flush=True)
    for pid in list(running):
        stop(pid)


if __name__ == "__main__":
    main()
