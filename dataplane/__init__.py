"""udplane: a userspace packet-forwarding data plane for pod networks.

A TUN device hands the node the packets that its pods send to other nodes; a batched loop puts each into a UDP datagram
to the right peer; the peer takes it out again and gives it to its own pods. The wire format is the one of flannel's
`udp` backend: the UDP payload is the inner IP packet and nothing else.

Start reading at `packets.packet` (header fields and rules), then `engines.python` (the packet's way, one step after
another), then `forwarding.forwarder` (the loop) and `node.node` (the daemon that starts and stops it all).
"""

__version__ = "0.1.0"
