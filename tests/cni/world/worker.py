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

Only the standard library is imported: this file runs by path, outside the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
STATE_ROOTS = ("/etc/cni", "/run", "/var/lib/cni")
# /run/netns is shown as namespaces, not files; the others belong to iptables, mount(8) and the warm interpreter.
NOT_STATE = ("/run/netns", "/run/xtables.lock", "/run/mount", "/run/udplane-cni")
REMOVALS = 10
COMPAT_TABLES = {f"{family} {table}" for family in ("ip", "ip6") for table in ("filter", "nat", "mangle", "raw")}

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
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def text(data: bytes) -> str:
    """Bytes as a string that JSON can carry."""
    return data.decode("utf-8", "backslashreplace")


def output(*argv: str) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def snapshot(pods: list[str], with_sysctls: bool = True) -> dict[str, Any]:
    """Links, addresses, routes, queueing and sysctls of each namespace, the node's firewall rules, the state files.

    The sysctls, of which there are thousands, take most of the time; they are left out unless they are asked for.
    """
    return {
        "netns": {pod or "node": in_pod(pod or None, lambda: network_state(with_sysctls)) for pod in ["", *pods]},
        "rules": firewall_rules(),
        "files": state_files(),
    }


def network_state(with_sysctls: bool) -> dict[str, Any]:
    """What iproute2 and /proc/sys/net say of the calling thread's network namespace."""
    addresses = json.loads(output("ip", "-j", "-d", "addr", "show"))
    routes = [*json.loads(output("ip", "-j", "-4", "route", "show", "table", "all") or "[]"),
              *json.loads(output("ip", "-j", "-6", "route", "show", "table", "all") or "[]")]  # fmt: skip
    plain = all(link.get("qdisc") == "noqueue" for link in addresses)
    queueing = [] if plain else json.loads(output("tc", "-j", "qdisc", "show") or "[]")
    links = [link["ifname"] for link in addresses]
    return {
        "links": addresses,
        "routes": routes,
        "policy": [line for family in ("-4", "-6") for line in output("ip", family, "rule").splitlines()],
        "qdiscs": queueing,
        "filters": ingress_filters(queueing),
        "vlans": bridge_vlans(addresses),
        "sysctls": sysctls(links) if with_sysctls else {},
    }


def ingress_filters(queueing: list[dict[str, Any]]) -> dict[str, str]:
    """The traffic filters of each link that has an ingress queue."""
    ingress = [entry["dev"] for entry in queueing if entry["kind"] == "ingress"]
    return {dev: output("tc", "filter", "show", "dev", dev, "parent", "ffff:") for dev in ingress}


def bridge_vlans(links: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The VLANs of each bridge and each port that has some."""
    bridges = [link for link in links if link.get("linkinfo", {}).get("info_kind") == "bridge"]
    if not bridges:
        return {}
    return {entry["ifname"]: entry["vlans"] for entry in json.loads(output("bridge", "-j", "vlan", "show") or "[]")}


def sysctls(links: list[str]) -> dict[str, str]:
    """Every readable setting of the links, of `all` and of `default`, and ip_forward."""
    found = {"ipv4/ip_forward": Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()}
    for family in ("ipv4", "ipv6"):
        for link in ["all", "default", *links]:
            directory = f"{family}/conf/{link}"
            for name in os.listdir(f"/proc/sys/net/{directory}"):  # noqa: PTH208 - not thousands of Path objects
                try:
                    found[f"{directory}/{name}"] = read_setting(f"/proc/sys/net/{directory}/{name}")
                except OSError:
                    continue  # stable_secret cannot be read before it is set
    return found


def read_setting(path: str) -> str:
    """A sysctl's value. There are thousands of them in a snapshot, so this does no more than it must."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode().strip()
    finally:
        os.close(descriptor)


def firewall_rules() -> dict[str, Any]:
    """iptables' tables as {family table: {chain: [rule]}}, and every other nft table as its listing."""
    tables = [line.removeprefix("table ") for line in output("nft", "list", "tables").splitlines()]
    rules: dict[str, Any] = {}
    for family, program in (("ip", "iptables-save"), ("ip6", "ip6tables-save")):
        if any(table in COMPAT_TABLES and table.startswith(f"{family} ") for table in tables):
            rules |= saved_chains(family, output(program))
    for table in tables:
        if table not in COMPAT_TABLES:
            rules[table] = output("nft", "-s", "list", "table", *table.split()).splitlines()
    return rules


def saved_chains(family: str, saved: str) -> dict[str, dict[str, list[str]]]:
    """The chains of iptables-save with their rules, in order, under `family table`; counters are left out."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(f"{family} {line[1:]}", {})
        elif line.startswith(":"):
            chains[line[1:].split()[0]] = []
        elif line.startswith("-A "):
            chains[line.split()[1]].append(re.sub(r"^-A \S+ ?", "", line))
    return tables


def state_files() -> dict[str, str]:
    """Mode and content of every file and directory under the state directories."""
    found: dict[str, str] = {}
    for root in STATE_ROOTS:
        for directory, subdirectories, names in os.walk(root):
            subdirectories[:] = [name for name in subdirectories if f"{directory}/{name}" not in NOT_STATE]
            paths = [f"{directory}/{name}" for name in [*subdirectories, *names]]
            found |= {path: describe(Path(path)) for path in paths if path not in NOT_STATE}
    return found


def describe(path: Path) -> str:
    """One line on a file: its mode, then its content or what else it is."""
    mode = f"{path.lstat().st_mode & 0o7777:04o}"
    if path.is_dir():
        return f"{mode} directory"
    if not path.is_file():
        return f"{mode} special"
    return f"{mode} {text(path.read_bytes())}"


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
