"""The way of packets through a process: two ends, `tun` and `udp`, and the `forwarder` between them.

`memory` has ends that are no devices, for tests. The native engine does the same in C (native/loop.c).
"""
