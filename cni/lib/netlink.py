"""Netlink: how to ask the kernel, without a library (netlink(7), rtnetlink(7), include/uapi/linux/netlink.h).

A request is a header, a fixed structure of its family, and attributes, each a length, a type and a value padded to
four bytes. The kernel answers with messages and an acknowledgement, or with an error number and, since the socket
asks for it, an error text. Everything here is in the byte order of the host; addresses inside are in network order.

    with NetlinkSocket() as netlink:
        netlink.request(RTM_SETLINK, ifinfomsg(index, flags=IFF_UP, change=IFF_UP))

A netlink socket belongs to the network namespace that it was opened in, for ever. So a plugin opens one on the host
and one inside the pod, and works with both side by side. A dump that the kernel marks as interrupted (another writer
came in between) is asked for again.
"""

from __future__ import annotations

from struct import Struct

from cni.lib.lean import os, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

RECEIVE_BYTES = 65536
DUMP_ATTEMPTS = 10
EINTR = 4

HEADER = Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = Struct("=HH")  # length, type
NFGENMSG = Struct("=BBH")  # what follows the header on NETLINK_NETFILTER: family, version, resource
ERROR = Struct("=i")
U16 = Struct("=H")
U32 = Struct("=I")


class NetlinkError(OSError):
    """The kernel refused a request; `hint` is its own explanation, if it gave one."""

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.hint = hint

    def __str__(self) -> str:
        text = os.strerror(self.errno or 0)
        text = text[:1].lower() + text[1:]
        return f"{text} ({self.hint})" if self.hint else text


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in host order."""
    return attribute(kind, U32.pack(value))


def attribute_text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data`, by type; of one that comes more than once, the last. A torn last one is left out."""
    return dict(list_attributes(data))


def list_attributes(data: bytes) -> list[tuple[int, bytes]]:
    """The attributes in `data` in their order, as type and value. A torn last one is left out."""
    found = []
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            break
        found.append((kind & NLA_TYPE_MASK, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return found


def text(value: bytes) -> str:
    """The string in a NUL-terminated attribute."""
    return value.rstrip(b"\0").decode("utf-8", "replace")


class NetlinkSocket:
    """A netlink socket in the network namespace that the caller is in when it makes it."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:  # an older kernel: no error texts, dumps that are filtered less
                pass

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send one message and wait for its acknowledgement; gives the bodies of the answers.

        Raises NetlinkError with the kernel's error number.
        """
        return self._exchange(kind, body, flags | NLM_F_REQUEST | NLM_F_ACK)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All the objects that match `body`, from one uninterrupted pass."""
        for _ in range(DUMP_ATTEMPTS):
            try:
                return self._exchange(kind, body, NLM_F_REQUEST | NLM_F_DUMP)
            except NetlinkError as error:
                if error.errno != EINTR:
                    raise
        raise NetlinkError(EINTR, "the kernel's tables changed under every attempt to read them")

    def _exchange(self, kind: int, body: bytes, flags: int) -> list[bytes]:
        self._sequence += 1
        message = HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body
        self._socket.send(message)
        answers: list[bytes] = []
        interrupted = False
        while True:
            for answer_kind, answer_flags, payload in self._receive():
                interrupted = interrupted or bool(answer_flags & NLM_F_DUMP_INTR)
                if answer_kind in (NLMSG_ERROR, NLMSG_DONE):
                    _raise_error(payload, answer_flags)
                    if interrupted:
                        raise NetlinkError(EINTR)
                    return answers
                answers.append(payload)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """The messages of one datagram that answer the last request: (type, flags, body)."""
        data = self._socket.recv(RECEIVE_BYTES)
        at = 0
        while at + HEADER.size <= len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size:
                return
            if sequence == self._sequence:
                yield kind, flags, data[at + HEADER.size : at + length]
            at += (length + 3) & ~3


def _raise_error(payload: bytes, flags: int) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE reports, unless that is success."""
    number = -ERROR.unpack_from(payload)[0] if len(payload) >= 4 else 0
    if number <= 0:
        return
    hint = ""
    if flags & NLM_F_ACK_TLVS:
        skip = 4 + HEADER.size
        if not flags & NLM_F_CAPPED:
            skip = 4 + ((U32.unpack_from(payload, 4)[0] + 3) & ~3)
        hint = text(parse_attributes(payload[skip:]).get(NLMSGERR_ATTR_MSG, b""))
    raise NetlinkError(number, hint)
