"""All cases of the differential run."""

from __future__ import annotations

from tests.cni.differential.cases import (
    bridge,
    bridge_vlans,
    devices,
    host_local,
    kernel_links,
    links,
    meta,
    portmap,
    protocol,
    results,
    routing,
    static,
    verbs,
    versions,
)
from tests.cni.differential.scenario import Case

ALL_CASES: tuple[Case, ...] = (
    *protocol.cases(),
    *versions.cases(),
    *verbs.cases(),
    *results.cases(),
    *bridge.cases(),
    *bridge_vlans.cases(),
    *host_local.cases(),
    *static.cases(),
    *links.cases(),
    *devices.cases(),
    *kernel_links.cases(),
    *portmap.cases(),
    *meta.cases(),
    *routing.cases(),
)
