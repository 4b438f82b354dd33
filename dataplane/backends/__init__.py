"""Backends: how packets get from node to node. `base` has the protocol, one module each backend."""
