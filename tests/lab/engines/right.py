# ruff: noqa: D101
# mypy: ignore-errors
"""An engine of somebody's own that is right: the model solution, from which the tests make wrong ones."""

import ipaddress


class Engine:
    def encapsulate(self, packet, node):
        reason = self.header(packet)
        if reason:
            return reason
        version = packet[0] >> 4
        target = packet[16:20] if version == 4 else packet[24:40]
        if version == 6 and target.startswith(bytes(10) + b"\xff\xff"):
            return "NO_ROUTE"
        peer = self.owner(target, node)
        if peer is None:
            return "NO_ROUTE"
        if self.ttl(packet) <= 1:
            return "TTL_EXCEEDED"
        if len(packet) > node.mtu:
            return "TOO_BIG"
        return self.lower(packet), peer

    def decapsulate(self, packet, sender, node):
        if sender not in [str(peer.address) for peer in node.peers]:
            return "UNKNOWN_SENDER"
        reason = self.header(packet)
        if reason:
            return reason
        version = packet[0] >> 4
        source, target = (packet[12:16], packet[16:20]) if version == 4 else (packet[8:24], packet[24:40])
        address = ipaddress.ip_address(source)
        if address.is_unspecified or address.is_loopback or address.is_multicast or (source[0] >= 240 and version == 4):
            return "FOREIGN_SOURCE"
        if (version == 4 and source[0] == 0) or (version == 6 and address.ipv4_mapped):
            return "FOREIGN_SOURCE"
        owner = self.owner(source, node)
        if owner is None or str(owner.address) != sender:
            return "FOREIGN_SOURCE"
        if not any(self.has_host(subnet, ipaddress.ip_address(target)) for subnet in node.subnets):
            return "FOREIGN_DESTINATION"
        if self.ttl(packet) <= 1:
            return "TTL_EXCEEDED"
        return self.lower(packet)

    def header(self, packet):
        if len(packet) < 1:
            return "TRUNCATED"
        version = packet[0] >> 4
        if version not in (4, 6):
            return "BAD_VERSION"
        if len(packet) < (20 if version == 4 else 40):
            return "TRUNCATED"
        if version == 6:
            return "" if len(packet) == 40 + int.from_bytes(packet[4:6], "big") else "BAD_LENGTH"
        header_len = (packet[0] & 15) * 4
        if header_len < 20:
            return "BAD_HEADER"
        if len(packet) < header_len:
            return "TRUNCATED"
        return "" if len(packet) == int.from_bytes(packet[2:4], "big") else "BAD_LENGTH"

    def ttl(self, packet):
        return packet[8] if packet[0] >> 4 == 4 else packet[7]

    def owner(self, address, node):
        wanted, best, found = ipaddress.ip_address(address), -1, None
        for peer in node.peers:
            for subnet in peer.subnets:
                if wanted in subnet and subnet.prefixlen > best:
                    best, found = subnet.prefixlen, peer
        return found

    def has_host(self, subnet, address):
        if address.version == 4 and subnet.prefixlen < 31 and address == subnet.broadcast_address:
            return False
        return address in subnet

    def lower(self, packet):
        packet = bytearray(packet)
        if packet[0] >> 4 == 6:
            packet[7] -= 1
            return bytes(packet)
        old = int.from_bytes(packet[8:10], "big")
        packet[8] -= 1
        new = int.from_bytes(packet[8:10], "big")
        total = (~int.from_bytes(packet[10:12], "big") & 0xFFFF) + (~old & 0xFFFF) + new
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        packet[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
        return bytes(packet)
