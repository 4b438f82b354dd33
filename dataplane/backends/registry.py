"""Backends by the type that the network config names."""

import importlib
from dataclasses import dataclass

from dataplane.backends.base import Backend, BackendContext
from dataplane.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of backends: the module of this package that has `create`, and what is known without making one."""

    module: str
    in_process: bool
    """Whether packets go through this process, by a TUN and a UDP socket; else the kernel moves them."""


BACKENDS = {
    "udp": Kind("udp", in_process=True),
    "vxlan": Kind("vxlan", in_process=False),
    "host-gw": Kind("hostgw", in_process=False),
}
"""By type."""


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
    backend: Backend = importlib.import_module(f"dataplane.backends.{BACKENDS[name].module}").create(context)
    return backend
