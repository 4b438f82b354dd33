"""Run one of udplane's plugins, and kill it with SIGKILL just before its Nth step.

    python kill_at.py N PLUGIN        with CNI_* and standard input as for the plugin, found in CNI_PATH

A step is a call into the kernel that can change something outside the process: a netlink or other socket message, a
write, a file made, renamed, linked or removed, an ioctl, a program started or waited for. The interpreter's profiling
hook sees each such call before it happens, wherever in the plugin it is made, so the plugin has no part in this.
Opening a file is no step of its own: a file that was created and not yet written is what a kill before the write
leaves. What the plugin would do in a thread beside the rest is done at once, so that every run has the same steps in
the same order.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

STEPS = {
    "send", "sendall", "sendto", "sendmsg", "write", "rename", "replace", "link", "symlink", "unlink", "remove",
    "mkdir", "rmdir", "posix_spawn", "waitpid", "ioctl",
}  # fmt: skip


VALUES = (str, bytes, bytearray, list, set)
"""What has methods of those names that stay within the process."""


class Killer:
    """Counts steps down to the one that is not allowed to happen."""

    def __init__(self, steps_left: int) -> None:
        self._steps_left = steps_left

    def __call__(self, _frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or function.__name__ not in STEPS or isinstance(function.__self__, VALUES):
            return
        self._steps_left -= 1
        if self._steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def call_now(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    """Stands in for _thread.start_new_thread."""
    function(*arguments)
    return 0


def main() -> None:
    """Be the plugin, in this interpreter even where one is kept warm, until the step comes."""
    bin_dir, kind = os.environ["CNI_PATH"], sys.argv[2]
    (library,) = Path(bin_dir).glob(".udplane/lib-*")
    sys.path.append(str(library))
    from cni.lib.launch import main as be_plugin

    vars(_thread)["start_new_thread"] = call_now
    sys.setprofile(Killer(int(sys.argv[1])))
    be_plugin(f"{bin_dir}/{kind}")


if __name__ == "__main__":
    main()
