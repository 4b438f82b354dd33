"""A node on which plugins run inside this process, thousands of them a minute: the other end of test_fuzz.py.

Started like worker.py, whose private directories it uses, with everything else on the machine read-only: a netconf made
by chance may name any path. Requests and answers are JSON lines. A request is a list of calls with files to lay out
first; an answer tells of each call its exit status, its output, and two things that a process would not show:

    internal  the exception that became error 999, if it was none that a plugin or the kernel raises on purpose
    left      what the node has now and did not have before the first call: links other than bridges, and state files
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest.mock import patch

REPO = Path(__file__).parents[3]
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
WRITABLE = ("/run", "/var/lib", "/etc", "/opt", "/proc/sys/net")
STATE_DIRECTORIES = ("/var/lib/cni", "/run/cni", "/run/flannel", "/etc/cni")
# What a plugin keeps for its network or its node, not for one pod.
SHARED_FILES = re.compile(r"/\.udplane/|/last_reserved_ip\.|/(.*\.)?lock$")

sys.path.insert(0, str(REPO))
from cni.lib import registry, skel  # noqa: E402 - needs the path above
from cni.lib.errors import describe  # noqa: E402


def load_worker() -> Any:
    """worker.py, which is a program beside this one and no module of a package."""
    spec = importlib.util.spec_from_file_location("worker", REPO / "tests/cni/world/worker.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def protect_machine(worker: Any) -> None:
    """Make every file system read-only but those of `WRITABLE`, in this mount namespace alone."""
    worker.mount("/proc/sys", "/proc/sys", "", MS_BIND)
    worker.mount("/proc/sys/net", "/proc/sys/net", "", MS_BIND)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if not target.startswith(WRITABLE):
            worker.mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


class Node:
    """The plugins, and what they found when a request began."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._internal: str | None = None
        patch("cni.lib.skel.describe", self._record).start()
        registry.launcher = "/opt/cni/bin/bridge"
        worker.reset()
        worker.make_pod("p1")
        worker.make_pod("p2")
        Path("/run/netns/file").touch()
        self._highest_fd = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())

    def answer(self, files: dict[str, str], calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Lay out the files and make the calls; see the module docstring."""
        for directory in STATE_DIRECTORIES:
            shutil.rmtree(directory, ignore_errors=True)
        for path, content in files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(content.encode("utf-8", "surrogateescape"))
        before = traces()
        return [self._call(**call, before=before) for call in calls]

    def _call(self, kind: str, env: dict[str, str], stdin: str, before: set[str]) -> dict[str, Any]:
        plugin = registry.load_plugin(kind)
        assert plugin is not None
        self._internal = None
        outcome = skel.run(plugin, env, lambda: stdin.encode("utf-8", "surrogateescape"))
        os.closerange(self._highest_fd + 1, self._highest_fd + 64)
        left = sorted(traces() - before)
        return {"exit": outcome.status, "stdout": outcome.output, "internal": self._internal, "left": left}

    def _record(self, error: BaseException) -> str:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("cni."):
            self._internal = repr(error)
        return describe(error)


def traces() -> set[str]:
    """Links and state files, as lines of text."""
    links = {f"link {link.name}" for link in Path("/sys/class/net").iterdir() if not is_bridge(link)}
    files = {
        f"file {directory}/{name}"
        for root in STATE_DIRECTORIES
        for directory, _, names in os.walk(root)
        for name in names
        if not SHARED_FILES.search(f"{directory}/{name}")
    }
    return links | files


def is_bridge(link: Path) -> bool:
    """Whether a link is a bridge, which stays for the next pod."""
    return (link / "bridge").is_dir()


def main() -> None:
    """Serve requests until standard input ends."""
    worker = load_worker()
    worker.cover_directories(sys.argv[1])
    protect_machine(worker)
    node = Node(worker)
    worker.mount("sysfs", "/sys", "sysfs")
    for line in sys.stdin:
        try:
            reply: Any = node.answer(**json.loads(line))
        except Exception:  # noqa: BLE001 - what a user would meet as a traceback is what the test looks for
            reply = traceback.format_exc()
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
