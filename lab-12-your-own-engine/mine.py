"""An engine of your own: fill in the two methods, save, and send a packet.

    udplane lab up --engine mine.py         a lab whose nodes run this file
    udplane lab golden mine.py              is it right? golden packets judge it
    udplane lab walk pod1 pod4              what it does to a packet

The file is read again whenever it has changed. What it raises is said in the node's log, in one line.

What you get:

    packet          bytes: an IP packet, as it came
    sender          text: the address that the datagram came from
    node.subnets    the networks of this node
    node.mtu        bytes of the largest packet that may be sent
    node.peers      the other nodes, each with .address, .port and .subnets

What you return:

    encapsulate     (bytes, peer), to send these bytes to that peer
    decapsulate     bytes, to give them to the host
    either          the name of a reason to drop it: "TRUNCATED", "BAD_VERSION", "BAD_HEADER", "BAD_LENGTH",
                    "NO_ROUTE", "TTL_EXCEEDED", "TOO_BIG", "UNKNOWN_SENDER", "FOREIGN_SOURCE", "FOREIGN_DESTINATION"
"""


class Engine:
    """Decides about one packet at a time."""

    def encapsulate(self, packet, node):
        """A packet that this host wants to send to a pod of another node.

        1. Is the header there and true? The first four bits are the version: 4 or 6.
        2. Which peer has the destination? If several do, the one with the longest prefix.
        3. Is the TTL (IPv4: byte 8) or hop limit (IPv6: byte 7) above 1?
        4. Is the packet at most node.mtu bytes long?
        5. Lower the TTL by one, and move IPv4's header checksum (bytes 10 and 11) along with it.
        """
        return "NO_ROUTE"

    def decapsulate(self, packet, sender, node):
        """A datagram's payload that came from another node.

        1. Does `sender` belong to a peer?
        2. Is the header there and true?
        3. Does the source lie in a subnet of that peer?
        4. Does the destination lie in a subnet of this node?
        5. Is the TTL above 1? Lower it, as above.
        """
        return "UNKNOWN_SENDER"
