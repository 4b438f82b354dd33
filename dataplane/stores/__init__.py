"""Stores: where the network config and all nodes' leases live. `base` has the protocol, `registry` opens one."""
