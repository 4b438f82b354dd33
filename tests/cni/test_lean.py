"""What a plugin imports is what a call costs: the dear modules stay out, and can come back in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEAR = ["os", "json", "re", "enum", "socket", "subprocess", "contextlib", "collections", "typing", "ctypes", "hashlib",
        "threading", "functools", "ipaddress", "argparse", "dataclasses", "logging", "random"]  # fmt: skip
CONF = (
    '{"cniVersion": "1.0.0", "name": "n", "vrfname": "v",'
    ' "ipam": {"addresses": [{"address": "10.1.2.3/24"}], "subnet": "10.0.0.0/24"}}'
)

LOADED = """
import sys
sys.path.append({root!r})
for name in {hidden!r}:
    sys.modules[name] = None
from cni.lib import registry, skel
plugin = registry.load_plugin({plugin!r})
env = {{"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}}
outcome = skel.run(plugin, env, lambda: {conf!r}.encode())
print(outcome.status, outcome.output)
print(*sorted({dear!r} & sys.modules.keys()))
"""


def run(plugin: str, hidden: tuple[str, ...] = ()) -> tuple[str, str]:
    """The outcome of a DEL in a fresh interpreter, and which of the dear modules it loaded."""
    code = LOADED.format(root=str(ROOT), plugin=plugin, hidden=hidden, conf=CONF, dear=set(DEAR))
    answer = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    outcome, loaded, _ = answer.stdout.rsplit("\n", 2)
    return outcome, loaded


@pytest.mark.parametrize(
    "plugin",
    [
        "bandwidth",
        "bridge",
        "dummy",
        "firewall",
        "flannel",
        "host-device",
        "host-local",
        "ipvlan",
        "loopback",
        "macvlan",
        "portmap",
        "ptp",
        "sbr",
        "static",
        "tap",
        "tuning",
        "vlan",
        "vrf",
    ],
)
def test_no_dear_module_is_imported(plugin: str) -> None:
    assert run(plugin) == ("0 ", "")


@pytest.mark.parametrize("hidden", [("_json",), ("_sha512", "_sha2")])
def test_without_a_cheap_door_the_public_one_is_taken(hidden: tuple[str, ...]) -> None:
    outcome, loaded = run("bridge", hidden)
    assert outcome == "0 "
    assert loaded
