"""The versions of the CNI specification, which plugin speaks which, and the answer to VERSION.

podman asks every plugin of every network for its versions before each ADD and each DEL, so this answer needs nothing
but this module: not the plugin, and not the rest of the protocol.
"""

from __future__ import annotations

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = VERSIONS[-1]
# A plugin that is not here speaks them all. These amend the result of another, which older results have no room for.
SPOKEN_SINCE = {"bandwidth": "0.3.0", "firewall": "0.4.0", "vrf": "0.3.1"}


def at_least(version: str, floor: str) -> bool:
    """Whether a known version is `floor` or newer."""
    return VERSIONS.index(version) >= VERSIONS.index(floor)


def spoken_by(plugin: str) -> tuple[str, ...]:
    """The versions that a plugin speaks, oldest first."""
    return VERSIONS[VERSIONS.index(SPOKEN_SINCE.get(plugin, VERSIONS[0])) :]


def answer(plugin: str) -> str:
    """What a plugin prints when it is asked for its versions."""
    supported = ",".join(f'"{version}"' for version in spoken_by(plugin))
    return f'{{"cniVersion":"{CURRENT}","supportedVersions":[{supported}]}}\n'
