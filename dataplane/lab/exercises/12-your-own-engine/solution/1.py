"""IPv4, on the way out."""

from ipaddress import ip_address, ip_network


def owner(address, node):
    """The peer with the longest prefix around an address, or None."""
    found = [
        (net.prefixlen, peer)
        for peer in node.peers
        for net in map(ip_network, map(str, peer.subnets))
        if address in net
    ]
    return max(found, key=lambda item: item[0])[1] if found else None


def lowered(packet):
    """The packet with one less in its TTL, and the checksum moved along (RFC 1624)."""
    new = bytearray(packet)
    new[8] -= 1
    old_word, new_word = (int.from_bytes(data[8:10]) for data in (packet, new))
    total = (~int.from_bytes(packet[10:12]) & 0xFFFF) + (~old_word & 0xFFFF) + new_word
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    new[10:12] = (~total & 0xFFFF).to_bytes(2)
    return bytes(new)


class Engine:
    """Decides about one packet at a time."""

    def encapsulate(self, packet, node):
        if not packet or packet[0] >> 4 != 4:
            return "BAD_VERSION"
        peer = owner(ip_address(packet[16:20]), node)
        if peer is None:
            return "NO_ROUTE"
        if packet[8] <= 1:
            return "TTL_EXCEEDED"
        if len(packet) > node.mtu:
            return "TOO_BIG"
        return lowered(packet), peer

    def decapsulate(self, packet, sender, node):
        return "UNKNOWN_SENDER"
