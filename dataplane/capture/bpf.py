"""Classic BPF: the program by which the kernel filters a packet socket (Documentation/networking/filter.rst)."""

import ctypes
import socket
import struct

# include/uapi/linux/bpf_common.h
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_INDEXED = 0x30, 0x28, 0x48
_JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT = 0x15, 0x45
_AND, _SHIFT_LEFT, _SHIFT_RIGHT, _TO_INDEX = 0x54, 0x64, 0x74, 0x07
_RETURN = 0x06

_NETWORK_HEADER = 0x100000000 - 0x100000
"""SKF_NET_OFF: offsets above count from the network header, on devices with and without Ethernet header alike."""

_SO_ATTACH_FILTER = 26
_UDP = 17
_LATER_FRAGMENT = 0x1FFF

_Instruction = tuple[str, int, int, str, str]
"""Label or "", operation, operand, and the labels to go to if a condition holds and if it does not; "" is the next."""


def udp_port_program(port: int) -> bytes:
    """A program that takes IPv4 and IPv6 packets from or to a UDP port, in whole."""
    net = _NETWORK_HEADER
    return _assemble(
        ("", _LOAD_BYTE, net, "", ""),
        ("", _SHIFT_RIGHT, 4, "", ""),
        ("", _JUMP_IF_EQUAL, 6, "", "other than IPv6"),
        ("", _LOAD_BYTE, net + 6, "", ""),
        ("", _JUMP_IF_EQUAL, _UDP, "", "refuse"),
        ("", _LOAD_HALF, net + 40, "", ""),
        ("", _JUMP_IF_EQUAL, port, "take", ""),
        ("", _LOAD_HALF, net + 42, "", ""),
        ("", _JUMP_IF_EQUAL, port, "take", "refuse"),
        ("other than IPv6", _JUMP_IF_EQUAL, 4, "", "refuse"),
        ("", _LOAD_BYTE, net + 9, "", ""),
        ("", _JUMP_IF_EQUAL, _UDP, "", "refuse"),
        ("", _LOAD_HALF, net + 6, "", ""),
        ("", _JUMP_IF_ANY_BIT, _LATER_FRAGMENT, "refuse", ""),
        ("", _LOAD_BYTE, net, "", ""),
        ("", _AND, 0x0F, "", ""),
        ("", _SHIFT_LEFT, 2, "", ""),
        ("", _TO_INDEX, 0, "", ""),
        ("", _LOAD_HALF_INDEXED, net, "", ""),
        ("", _JUMP_IF_EQUAL, port, "take", ""),
        ("", _LOAD_HALF_INDEXED, net + 2, "", ""),
        ("", _JUMP_IF_EQUAL, port, "take", "refuse"),
        ("take", _RETURN, 0xFFFFFFFF, "", ""),
        ("refuse", _RETURN, 0, "", ""),
    )


def attach(sock: socket.socket, program: bytes) -> None:
    """Let `sock` receive only what `program` takes. OSError if the kernel refuses it."""
    instructions = ctypes.create_string_buffer(program, len(program))
    count_and_pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, count_and_pointer)


def _assemble(*instructions: _Instruction) -> bytes:
    """Struct sock_filter for each instruction; jumps count the instructions that they leave out."""
    places = {label: place for place, (label, *_) in enumerate(instructions) if label}

    def distance(place: int, label: str) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", operation, distance(place, if_so), distance(place, if_not), operand)
        for place, (_, operation, operand, if_so, if_not) in enumerate(instructions)
    )
