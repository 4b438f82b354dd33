"""The process that keeps a lab: it makes the lab in namespaces of its own, and stays as long as the lab stands.

`python -m dataplane.lab.keeper DIRECTORY [DESCRIPTOR]` is run by `raising`, as the first process of new namespaces.

1. It writes down who it is (see `state`), while /proc still shows it as the rest of the machine sees it.
2. It settles: a /proc, a /run and an /etc/hosts of the lab's own.
3. It builds the lab, tells on stdout how far it is, one JSON object a line, and ends if stdin does: then nobody waits.
4. It becomes `keeper_init`, which needs little memory, with the nodes as its children.

Where the kernel does not allow a fresh /proc, as in some containers, there is no process namespace either. Then nodes
end with the keeper since they asked the kernel for that (PR_SET_PDEATHSIG), and what else runs in the lab is ended by
the next command about labs, which knows it by its user namespace or by its environment.
"""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataplane.errors import UdplaneError
from dataplane.lab import hosts_file, keeper_init, private, topology_file
from dataplane.lab.build import Build
from dataplane.lab.netns import LabError
from dataplane.lab.plan import make_plan
from dataplane.lab.state import RECORD, Record, process_start

MODULE = "dataplane.lab.keeper"
TOPOLOGY, CHOICES = "topology.toml", "up.json"


def tell(**message: Any) -> None:
    """Say something to whoever waits for the lab."""
    print(json.dumps(message), flush=True)


def introduce(directory: Path, *, users: bool, pids: bool) -> None:
    """Write down who keeps the lab."""
    record = Record(**json.loads((directory / RECORD).read_bytes()))
    pid = int(Path("/proc/self").readlink().name)  # not getpid(), which tells what the processes in here see
    namespace = str(Path("/proc/self/ns/user").readlink()) if users else ""
    replace(record, pid=pid, start=process_start(pid), users=namespace, pids=pids).write(directory)


def end_with_stdin(directory: Path) -> None:
    """End, and the lab with it, when whoever waits for it is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        keeper_init.clear(str(directory))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def build(directory: Path) -> None:
    """Make the lab of that directory, and leave it standing."""
    choices = json.loads((directory / CHOICES).read_bytes())
    text = (directory / TOPOLOGY).read_text("utf-8")
    topology = topology_file.parse(text, choices["file"], Path(choices["directory"]), engine=choices["engine"])
    plan = make_plan(topology, choices["seed"])
    with Build(plan, directory, directory.name, lambda text: tell(say=text)) as lab:
        lab.stand()
        lab.keep()


def main() -> int:
    """Entry point; returns only when there is no lab."""
    directory, *session = sys.argv[1:]
    choices = json.loads(Path(directory, CHOICES).read_bytes())
    end_with_stdin(Path(directory))
    introduce(Path(directory), users=choices["users"], pids=choices["pids"])
    try:
        settle(Path(directory), pids=choices["pids"])
        build(Path(directory))
    except (UdplaneError, OSError, subprocess.SubprocessError) as error:
        tell(error=str(error), notes=getattr(error, "__notes__", []))
        return 1
    tell(stands=True)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    for number in session:
        os.set_inheritable(int(number), True)
    return os.execv(sys.executable, [sys.executable, "-I", "-S", keeper_init.__file__, directory, *session])


def settle(directory: Path, *, pids: bool) -> None:
    """Make the new namespaces a place to live in. LabError if that cannot be."""
    if pids:
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    if not private.settle():
        raise LabError("cannot prepare the new namespaces; run the same command as root")
    hosts_file.mount(directory)


if __name__ == "__main__":
    sys.exit(main())
