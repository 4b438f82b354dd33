"""All of it."""

from ipaddress import ip_address, ip_network

FAMILIES = {
    4: {"least": 20, "ttl": 8, "source": slice(12, 16), "destination": slice(16, 20)},
    6: {"least": 40, "ttl": 7, "source": slice(8, 24), "destination": slice(24, 40)},
}


def trouble(packet):
    """Why the header is not to be believed; empty when it is."""
    if not packet:
        return "TRUNCATED"
    family = FAMILIES.get(packet[0] >> 4)
    if family is None:
        return "BAD_VERSION"
    if len(packet) < family["least"]:
        return "TRUNCATED"
    if packet[0] >> 4 == 6:
        return "" if 40 + int.from_bytes(packet[4:6]) == len(packet) else "BAD_LENGTH"
    header = (packet[0] & 15) * 4
    if header < 20:
        return "BAD_HEADER"
    if header > len(packet):
        return "TRUNCATED"
    return "" if int.from_bytes(packet[2:4]) == len(packet) else "BAD_LENGTH"


def owner(address, node):
    """The peer with the longest prefix around an address, or None."""
    if address.version == 6 and address.ipv4_mapped:
        return None
    found = [
        (net.prefixlen, peer)
        for peer in node.peers
        for net in map(ip_network, map(str, peer.subnets))
        if address in net
    ]
    return max(found, key=lambda item: item[0])[1] if found else None


def field(packet, name):
    return ip_address(packet[FAMILIES[packet[0] >> 4][name]])


def is_hosts(address):
    """Whether one host can have the address."""
    if address.version == 6:
        return not (address.is_multicast or address.is_loopback or address.is_unspecified)
    first = address.packed[0]
    return first not in (0, 127) and first < 224


def lowered(packet):
    """The packet with one less in its TTL, and IPv4's checksum moved along (RFC 1624)."""
    new = bytearray(packet)
    at = FAMILIES[packet[0] >> 4]["ttl"]
    new[at] -= 1
    if packet[0] >> 4 == 4:
        old_word, new_word = (int.from_bytes(data[8:10]) for data in (packet, new))
        total = (~int.from_bytes(packet[10:12]) & 0xFFFF) + (~old_word & 0xFFFF) + new_word
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        new[10:12] = (~total & 0xFFFF).to_bytes(2)
    return bytes(new)


def ttl(packet):
    return packet[FAMILIES[packet[0] >> 4]["ttl"]]


class Engine:
    """Decides about one packet at a time."""

    def encapsulate(self, packet, node):
        if reason := trouble(packet):
            return reason
        peer = owner(field(packet, "destination"), node)
        if peer is None:
            return "NO_ROUTE"
        if ttl(packet) <= 1:
            return "TTL_EXCEEDED"
        if len(packet) > node.mtu:
            return "TOO_BIG"
        return lowered(packet), peer

    def decapsulate(self, packet, sender, node):
        peer = next((peer for peer in node.peers if str(peer.address) == str(sender)), None)
        if peer is None:
            return "UNKNOWN_SENDER"
        if reason := trouble(packet):
            return reason
        source = field(packet, "source")
        if owner(source, node) is not peer or not is_hosts(source):
            return "FOREIGN_SOURCE"
        mine = [net for net in map(ip_network, map(str, node.subnets)) if field(packet, "destination") in net]
        if not mine or (mine[0].version == 4 and field(packet, "destination") == mine[0].broadcast_address):
            return "FOREIGN_DESTINATION"
        if ttl(packet) <= 1:
            return "TTL_EXCEEDED"
        return lowered(packet)
