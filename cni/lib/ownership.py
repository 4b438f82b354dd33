"""Whose a device is: written on it in full, as its alias (IFLA_IFALIAS), and compared in full.

    udplane net1/0123abcd/eth0        network, container id, interface

Names of devices are too short for that: they hold a hash, and two networks, or a device of somebody else's, may share
what fits. So a name is where to look, and the alias says whether to touch. None of the three parts can contain a
slash. One that is too long for the 255 bytes of an alias is written as the 256-bit hash of it.

A device without an alias was made by an earlier version, or by an official plugin, or by an ADD that was killed before
it wrote one. DEL takes it for an attachment's only if its whole name is the attachment's own. GC leaves it, unless it
is still down, as only a killed ADD leaves one.
"""

from __future__ import annotations

from cni.lib.lean import sha512
from cni.lib.links import IFLA_IFALIAS, Link
from cni.lib.netlink import attribute_text
from cni.lib.netlink import text as decode
from cni.lib.skel import Attachment

PREFIX = "udplane "
LONGEST_PART = 100
HASH_DIGITS = 64


def _part(word: str) -> str:
    data = word.encode("utf-8", "surrogateescape")
    return word if len(data) <= LONGEST_PART else "#" + str(sha512(data).hexdigest()[:HASH_DIGITS])


def network_label(network: str) -> str:
    """What the labels of a network's attachments start with, and no other network's."""
    return f"{PREFIX}{_part(network)}/"


def label(network: str, attachment: Attachment) -> str:
    """The alias of an attachment's devices."""
    return f"{network_label(network)}{_part(attachment.container_id)}/{attachment.ifname}"


def label_attribute(network: str, attachment: Attachment) -> bytes:
    """The attribute that writes the label on a link."""
    return alias_attribute(label(network, attachment))


def alias_attribute(text: str) -> bytes:
    """The attribute that writes any label on a link."""
    return attribute_text(IFLA_IFALIAS, text)


def alias(link: Link) -> str:
    """What is written on a link, empty if nothing is."""
    return decode(link.attributes.get(IFLA_IFALIAS, b""))


def may_be(link: Link, network: str, attachment: Attachment) -> bool:
    """Whether a link that has an attachment's whole name is that attachment's: nobody else's label is on it."""
    return alias(link) in ("", label(network, attachment))


def is_stale(link: Link, network: str, valid: set[Attachment]) -> bool:
    """Whether a link is labelled as this network's, for an attachment that is not valid any more."""
    written = alias(link)
    return written.startswith(network_label(network)) and written not in {label(network, one) for one in valid}
