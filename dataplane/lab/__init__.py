"""Networks of namespaces on one machine: for the demo, for tests that need real devices, and for lessons.

Bottom up: `private` gives a program a kernel network of its own, `netns` handles one namespace, `topology` builds
nodes, pods and the underlay between them, `overlay` runs a udplane on each node. `ping`, `transfer` and `walking` are
the instruments: they measure round trips, rates, and the way of one packet. `demo` shows it all.
"""
