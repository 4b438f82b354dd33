"""One side of the timing: a node with one set of plugins, in namespaces of its own.

Started by unshare(1) with the directory of the plugins as argument. Reads one request a line, `{"chain": [netconf ...],
"verb": "ADD", "pods": N}`, runs the chain for N pods at once, and answers with the seconds that it took, from the first
start to the last end, or with the first error. State directories are file systems in memory, private to this process.

Only the standard library is imported: this file runs by path, outside the package.
"""

import ctypes
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PODS = 50
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

Conf = dict[str, Any]


def prepare_node(subnet_env: str, big_store: str, reservations: int) -> None:
    """Private state directories, the pods' namespaces, a subnet.env, and a store with many reservations."""
    os.environ["PATH"] = SYSTEM_PATH
    for command in ("mount -t tmpfs tmpfs /run", "mount -t tmpfs tmpfs /var/lib", "ip link set lo up"):
        run_or_stop(command)
    for name in ("/run/netns", "/run/flannel", f"/var/lib/cni/networks/{big_store}"):
        Path(name).mkdir(parents=True)
    Path("/run/flannel/subnet.env").write_text(subnet_env)
    for number in range(reservations):
        address = f"10.20.{number // 250 + 1}.{number % 250 + 1}"
        Path(f"/var/lib/cni/networks/{big_store}/{address}").write_bytes(b"pod-of-before-%d\r\neth0" % number)
    for pod in range(PODS):
        in_thread(f"/run/netns/p{pod}")


def run_or_stop(command: str) -> None:
    """Run a command that must succeed."""
    if os.spawnvp(os.P_WAIT, command.split()[0], command.split()) != 0:
        raise SystemExit(f"{command}: failed")


def in_thread(path: str) -> None:
    """Create a network namespace at `path`: by a thread, since a namespace belongs to a thread."""

    def create() -> None:
        libc = ctypes.CDLL(None)
        libc.unshare(CLONE_NEWNET)
        Path(path).touch()
        libc.mount(b"/proc/thread-self/ns/net", path.encode(), b"", MS_BIND, b"")

    thread = threading.Thread(target=create)
    thread.start()
    thread.join()


def run_chain(bin_dir: str, chain: list[Conf], verb: str, pod: int) -> str:
    """The chain for one pod, in the verb's order; empty, or the first error."""
    result: Conf = {}
    for conf in chain if verb == "ADD" else reversed(chain):
        status, output = run_plugin(bin_dir, conf | result, verb, pod)
        if status != 0:
            return f"{verb} of {conf['type']}: {output}"
        result = {"prevResult": json.loads(output)} if verb == "ADD" and conf is not chain[-1] else {}
    return ""


def run_plugin(bin_dir: str, conf: Conf, verb: str, pod: int) -> tuple[int, str]:
    """Start the plugin and wait for its end; exit status and output."""
    env = {
        "PATH": SYSTEM_PATH,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": f"bench-{pod}",
        "CNI_NETNS": f"/run/netns/p{pod}",
        "CNI_IFNAME": "lo" if conf["type"] == "loopback" else "eth0",
        "CNI_PATH": bin_dir,
    }
    path = f"{bin_dir}/{conf['type']}"
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(json.dumps(conf | port_of(conf, pod)).encode())
        stdin.seek(0)
        actions = [(os.POSIX_SPAWN_DUP2, stdin.fileno(), 0), (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1)]
        _, status = os.waitpid(os.posix_spawn(path, [path], env, file_actions=actions), 0)
        stdout.seek(0)
        return status, stdout.read().decode()


def port_of(conf: Conf, pod: int) -> Conf:
    """A host port of the pod's own."""
    if conf["type"] != "portmap":
        return {}
    mapping = conf["runtimeConfig"]["portMappings"][0]
    return {"runtimeConfig": {"portMappings": [{**mapping, "hostPort": mapping["hostPort"] + pod}]}}


def measure(bin_dir: str, chain: list[Conf], verb: str, pods: int) -> dict[str, Any]:
    """Run the chain for `pods` pods at once: {"seconds": ..., "error": ...}."""
    if pods == 1:
        begin = time.perf_counter()
        error = run_chain(bin_dir, chain, verb, 0)
        return {"seconds": time.perf_counter() - begin, "error": error}
    with ThreadPoolExecutor(pods) as pool:
        begin = time.perf_counter()
        errors = list(pool.map(lambda pod: run_chain(bin_dir, chain, verb, pod), range(pods)))
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "error": next((error for error in errors if error), "")}


def main() -> None:
    """Serve requests until standard input ends; the first line says how to prepare the node."""
    bin_dir = sys.argv[1]
    prepare_node(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        print(json.dumps(measure(bin_dir, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
