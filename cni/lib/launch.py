"""What an installed launcher runs: the plugin whose name the launcher was called by.

The launcher's own path is kept: it tells a plugin whether a delegate that it finds in CNI_PATH is of the same
installation (see cni.lib.delegate).
"""

from __future__ import annotations

import gc

from cni.lib import registry
from cni.lib.lean import end_process, environment, os
from cni.lib.start_state import enter_known_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(launcher: str) -> NoReturn:
    """Be the plugin that the last part of the path `launcher` names."""
    try:
        enter_known_state()
    except OSError as error:
        raise SystemExit(f"{launcher}: a standard descriptor is closed, and /dev/null: {error.strerror}") from None
    gc.disable()  # 0.3 ms; nothing lives long enough to be collected
    registry.launcher = launcher
    name = launcher.rpartition("/")[2]
    if name not in registry.MODULES:
        raise SystemExit(f"{launcher}: there is no plugin of this name; the names are {' '.join(registry.MODULES)}")
    if environment().get("CNI_COMMAND") == "VERSION":
        _answer_version(name)
    if name == "dhcp":  # it can also be the daemon
        from cni.dhcp import main as dhcp_main

        dhcp_main()
    from cni.lib.skel import main as be_plugin

    be_plugin(registry.load_plugin(name))


def _answer_version(name: str) -> NoReturn:
    """The fast way to the one answer that takes no input."""
    from cni.lib.versions import answer

    try:
        os.write(1, answer(name).encode())
    except OSError:
        end_process(1)
    end_process(0)
