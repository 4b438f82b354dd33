"""Backends: how packets get from node to node. `base` has the protocol, `registry` opens one by its type."""
