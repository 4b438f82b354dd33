"""Backends by the type that the network config names."""

import importlib

from dataplane.backends.base import Backend, BackendContext
from dataplane.errors import ConfigError

BACKENDS = {"udp": "udp", "vxlan": "vxlan", "host-gw": "hostgw"}
"""Type -> module of this package, which has `create`."""


def open_backend(context: BackendContext) -> Backend:
    """Make the backend that the network config names.

    ConfigError if there is none of that name or its part of the config is wrong, NodeError if this host cannot have it.
    """
    name = context.config.backend.type
    if name not in BACKENDS:
        raise ConfigError(
            f"the network config asks for the backend {name!r}; this node has {', '.join(BACKENDS)}, as in "
            '"Backend": {"Type": "udp"}'
        )
    backend: Backend = importlib.import_module(f"dataplane.backends.{BACKENDS[name]}").create(context)
    return backend
