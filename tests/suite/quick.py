"""A part of the suite for the change in hand, a pytest plugin: `./dev test --quick`.

In little more than a minute: all that needs no network of its own, each engine, and of what is slow a sample that goes
through every layer: one case of the differential run for each plugin, one life of each chain, a node and its traffic.
"""

from __future__ import annotations

import pytest

CHOSEN = (
    "tests/test_",
    "tests/packets/",
    "tests/leases/",
    "tests/forwarding/",
    "tests/capture/test_filter.py",
    "tests/capture/test_pcapng.py",
    "tests/capture/test_superpacket.py",
    "tests/kernel/test_wishes.py",
    "tests/commands/test_status.py",
    "tests/node/test_control.py",
    "tests/node/test_document.py",
    "tests/node/test_membership.py",
    "tests/node/test_run_directory.py",
    "tests/node/test_subnet_file.py",
    "tests/node/test_systemd.py",
    "tests/engines/",
    "tests/repo/",
    "tests/native/test_build.py",
    "tests/flanneld/test_flags.py",
    "tests/flanneld/test_goflags.py",
    "tests/flanneld/test_translate.py",
    "tests/stores/test_static.py",
    "tests/node/test_node.py",
    "tests/netns/test_wire.py",
    "tests/lab/test_walk.py",
    "tests/cni/test_",
    "tests/cni/differential/test_differential.py::test_same_as_official_plugins[version-1.0.0-",
)
"""What the ids of the tests begin with."""

SLOW = ("tests/cni/test_warm_end.py", "tests/cni/test_dhcp_server.py")
"""What they do not begin with: tests of what happens after a while."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all others."""
    chosen = [item for item in items if item.nodeid.startswith(CHOSEN) and not item.nodeid.startswith(SLOW)]
    config.hook.pytest_deselected(items=[*{*items}.difference(chosen)])
    items[:] = chosen
