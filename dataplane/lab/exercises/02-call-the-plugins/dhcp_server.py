"""A DHCP server that fits on a page (RFC 2131): dhcp_server.py DEVICE OWN-ADDRESS FIRST-ADDRESS LAST-ADDRESS

It waits for the device, then answers DISCOVER by OFFER and REQUEST by ACK. The same client gets the same address.
"""

import ipaddress
import socket
import struct
import sys
import time

COOKIE = bytes([99, 130, 83, 99])
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
MASK, ROUTER, LEASE_TIME, MESSAGE, SERVER = 1, 3, 51, 53, 54


def options_of(packet):
    """The options of a message: number -> value."""
    found, at = {}, 240
    while at + 1 < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        found[packet[at]] = packet[at + 2 : at + 2 + packet[at + 1]]
        at += 2 + packet[at + 1]
    return found


def answer(packet, kind, address, own):
    """The message that gives `address` to whoever has sent `packet`."""
    head = struct.pack("!BBBB4s2sH", 2, packet[1], packet[2], 0, packet[4:8], bytes(2), 0x8000)
    head += bytes(4) + address.packed + own.packed + bytes(4) + packet[28:44] + bytes(192) + COOKIE
    options = {
        MESSAGE: bytes([kind]),
        SERVER: own.packed,
        LEASE_TIME: struct.pack("!I", 3600),
        MASK: bytes([255, 255, 255, 0]),
        ROUTER: own.packed,
    }
    return head + b"".join(bytes([number, len(value)]) + value for number, value in options.items()) + b"\xff"


def open_socket(device):
    """A socket on the device, once that is there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    while True:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            break
        except OSError:
            time.sleep(0.2)
    sock.bind(("", 67))
    return sock


def main(device, own, first, last):
    own, first, last = map(ipaddress.IPv4Address, (own, first, last))
    given = {}  # by the client's MAC address
    sock = open_socket(device)
    while True:
        packet = sock.recv(2000)
        if len(packet) < 240 or packet[236:240] != COOKIE:
            continue
        kind = options_of(packet).get(MESSAGE)
        if kind not in (bytes([DISCOVER]), bytes([REQUEST])):
            continue
        client = packet[28:34]
        address = given.setdefault(client, first + len(given))
        if address <= last:
            reply = OFFER if kind[0] == DISCOVER else ACK
            sock.sendto(answer(packet, reply, address, own), ("255.255.255.255", 68))


main(*sys.argv[1:])
