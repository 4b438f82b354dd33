"""What a test needs of the kernel, and how to find out whether it is there.

A need is a kind of link, as in `ip link add type KIND`, or one of `FEATURES`. What this machine's kernel lacks,
`./dev test --kernels` has.
"""

from __future__ import annotations

import pytest

from tests.cni.world.world import World

FEATURES = {
    "bridge VLANs": "ip link add probe type bridge vlan_filtering 1; ip -d link show probe | grep -q 'filtering 1'",
}
"""Need: a shell command that succeeds where it is met. It may leave a link `probe`."""


def require_kernel(world: World, *needs: str) -> None:
    """Skip the calling test where the kernel lacks one of these."""
    missing = [need for need in needs if not has(world, need)]
    if missing:
        pytest.skip(f"needs a kernel with {' and '.join(missing)}: run ./dev test --kernels")


def has(world: World, need: str) -> bool:
    """Whether the world's kernel has this. A kind of link is there if the kernel does not say that it is unknown."""
    unknown = f"ip link add probe type {need} 2>&1 | grep -qE 'Unknown device type|Operation not supported'"
    done = world.run("sh", "-c", FEATURES.get(need, f"! {unknown}"))
    world.run("ip", "link", "delete", "probe")
    return done.exit == 0
