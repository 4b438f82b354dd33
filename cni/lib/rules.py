"""Routing policy rules, those by the source address, through rtnetlink (include/uapi/linux/fib_rules.h, ip-rule(8))."""

from __future__ import annotations

from struct import Struct

from cni.lib.addresses import RT_TABLE_UNSPEC
from cni.lib.ip import AF_INET, AF_INET6, family
from cni.lib.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    U32,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_u32,
    parse_attributes,
)

RTM_NEWRULE = 32
RTM_DELRULE = 33
RTM_GETRULE = 34
FRA_SRC = 2
FRA_PRIORITY = 6
FRA_SUPPRESS_PREFIXLEN = 14
FRA_TABLE = 15
FRA_PROTOCOL = 21
FR_ACT_TO_TBL = 1
ENOENT = 2

# family, dst length, src length, tos, table, two reserved bytes, action, flags
FIB_RULE = Struct("=BBBBBBBBI")
WITHOUT_A_CONDITION = {FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL}
"""What a rule may have, and still hold for all packets from its source."""


class Rule:
    """`from source lookup table`; `priority` is None until the kernel has chosen one."""

    __slots__ = ("priority", "source", "table")

    def __init__(self, source: bytes, table: int, priority: int | None = None) -> None:
        self.source = source
        self.table = table
        self.priority = priority

    def message(self) -> bytes:
        """The body of a message about it."""
        small_table = self.table if self.table < 256 else RT_TABLE_UNSPEC
        bits = len(self.source) * 8
        body = FIB_RULE.pack(family(self.source), 0, bits, 0, small_table, 0, 0, FR_ACT_TO_TBL, 0)
        body += attribute(FRA_SRC, self.source)
        if self.table > 255:
            body += attribute_u32(FRA_TABLE, self.table)
        return body + (attribute_u32(FRA_PRIORITY, self.priority) if self.priority is not None else b"")


def _dump(netlink: NetlinkSocket) -> list[tuple[tuple[int, ...], dict[int, bytes]]]:
    messages = []
    for of_family in (AF_INET, AF_INET6):
        messages += netlink.dump(RTM_GETRULE, FIB_RULE.pack(of_family, 0, 0, 0, 0, 0, 0, 0, 0))
    return [(FIB_RULE.unpack_from(message), parse_attributes(message[FIB_RULE.size :])) for message in messages]


def _number(attributes: dict[int, bytes], kind: int, default: int) -> int:
    return int(U32.unpack_from(attributes[kind])[0]) if kind in attributes else default


def tables_in_use(netlink: NetlinkSocket) -> set[int]:
    """The tables to which any rule leads."""
    return {_number(attributes, FRA_TABLE, header[4]) for header, attributes in _dump(netlink)}


def list_rules(netlink: NetlinkSocket) -> list[Rule]:
    """The rules that lead all packets from one address to a table."""
    found = []
    for header, attributes in _dump(netlink):
        source = attributes.get(FRA_SRC, b"")
        _, dst_len, src_len, tos, table, _, _, action, _ = header
        whole = src_len == len(source) * 8 > 0
        if whole and (dst_len, tos, action) == (0, 0, FR_ACT_TO_TBL) and attributes.keys() <= WITHOUT_A_CONDITION:
            table = _number(attributes, FRA_TABLE, table)
            found.append(Rule(source, table, _number(attributes, FRA_PRIORITY, 0)))
    return found


def add_rule(netlink: NetlinkSocket, rule: Rule) -> None:
    """ip rule add. Raises NetlinkError."""
    netlink.request(RTM_NEWRULE, rule.message(), NLM_F_CREATE | NLM_F_EXCL)


def delete_rule(netlink: NetlinkSocket, rule: Rule) -> None:
    """ip rule del; it may be gone."""
    try:
        netlink.request(RTM_DELRULE, rule.message())
    except NetlinkError as error:
        if error.errno != ENOENT:
            raise
