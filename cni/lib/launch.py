"""What an installed launcher runs: the plugin whose name the launcher was called by.

All launchers of an installation are links to one file. Its inode tells a plugin whether a delegate that it finds in
CNI_PATH is of the same installation (see cni.lib.delegate).
"""

from __future__ import annotations

from cni.lib import registry
from cni.lib.skel import main as be_plugin


def main(launcher: str) -> None:
    """Be the plugin that the last part of the path `launcher` names."""
    registry.launcher = launcher
    name = launcher.rpartition("/")[2]
    if name == "dhcp":  # it can also be the daemon
        from cni.dhcp import main as dhcp_main

        dhcp_main()
    plugin = registry.load_plugin(name)
    if plugin is None:
        raise SystemExit(f"{launcher}: there is no plugin of this name; the names are {' '.join(registry.MODULES)}")
    be_plugin(plugin)
