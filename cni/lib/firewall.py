"""Firewall rules by the two tools that exist: iptables-restore and nft. One transaction per verb.

A transaction is one program run that changes everything or nothing; the official plugins run iptables once for each
rule, nine to twenty-seven times for an ADD, and each of them may wait for the lock. `Transaction` starts the program
and lets the caller go on: removing a chain and removing a veth both wait for the kernel's grace periods, so they
wait together.

Rules of a pod live in chains named by a hash of network and container id, and carry both in a comment, in the forms
of the official plugins: whoever is to remove them needs nothing else.
"""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.lean import sha512
from cni.lib.nftables import chain_exists, legacy_table_in_use
from cni.lib.process import Finished, Process, find_program
from cni.lib.skel import Attachment

CHAIN_NAME_LENGTH = 28
IPTABLES = "iptables"
NFTABLES = "nftables"
NFT_COMMENT_LENGTH = 128
NOTHING_THERE = ("No such file or directory", "can't initialize", "Table does not exist")


PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,!=+@%[]")


class FirewallError(CniError):
    """A firewall program refused. `output` is what it wrote to stderr."""

    def __init__(self, argv: list[str], finished: Finished) -> None:
        self.output = finished.errors.decode("utf-8", "replace").strip()
        reason = " ".join(self.output.split())
        super().__init__(f"running [{' '.join(argv)}]: exit status {finished.status}: {reason}")

    @property
    def incompatible(self) -> bool:
        """Whether the table holds rules that only nft can express."""
        return "is incompatible" in self.output

    @property
    def nothing_there(self) -> bool:
        """Whether the table or chain does not exist, or cannot exist because the kernel lacks the family."""
        return any(reason in self.output for reason in NOTHING_THERE)


def hash_text(text: str, length: int) -> str:
    """The first `length` hexadecimal digits of the SHA-512 of a text."""
    return str(sha512(text.encode()).hexdigest()[:length])


def chain_name(network: str, container_id: str, prefix: str = "") -> str:
    """The name of a pod's iptables chain: `CNI-`, an optional further prefix, and a hash, 28 characters in all."""
    start = "CNI-" + prefix
    return start + hash_text(network + container_id, CHAIN_NAME_LENGTH - len(start))


def comment(network: str, container_id: str) -> str:
    """The comment on a pod's iptables rules, quoted for iptables-restore and as `iptables -S` prints it."""
    return f'"name: \\"{network}\\" id: \\"{container_id}\\""'


def nft_comment(network: str, attachment: Attachment) -> str:
    """The comment that tells an attachment's nftables rules from all others."""
    container_id, ifname = attachment.key
    instance = hash_text(f"{ifname}:{container_id}", 16)
    text = f"{hash_text(network, 16)}-{instance}, net: {network}, if: {ifname}, id: {container_id}"
    return text.replace('"', "")[:NFT_COMMENT_LENGTH]


def is_stale_nft(comment: str, network: str, valid: set[Attachment]) -> bool:
    """Whether a comment is of an attachment of this network, written out in full, that is not valid any more."""
    instance = comment[16:33]  # what stands between the two parts that the network's name decides
    start = f"{hash_text(network, 16)}{instance}, net: {network}, if: "[:NFT_COMMENT_LENGTH]
    return comment.startswith(start) and comment not in {nft_comment(network, one) for one in valid}


def quote(word: str) -> str:
    """A word as iptables-restore reads it. Raises CniError for what cannot stand in a line."""
    if any(ord(character) < 0x20 for character in word):
        raise CniError(f"control characters in {word!r}")
    if word and PLAIN.issuperset(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def default_backend() -> str:
    """iptables where it is installed, else nftables, as the official plugins choose."""
    return NFTABLES if find_program("iptables-restore") is None and find_program("nft") else IPTABLES


class Transaction:
    """A firewall program that is at work. `wait` gives its output or raises FirewallError."""

    def __init__(self, argv: list[str], script: str | None = "") -> None:
        """With script=None the program is only started, and waits for `feed`: loading is most of what it does."""
        self._argv = [_program(argv[0]), *argv[1:]]
        self._process = Process(self._argv, None if script is None else script.encode())

    def feed(self, script: str) -> Transaction:
        """Say what is to be done; nothing, if that is empty."""
        self._process.feed(script.encode())
        return self

    def wait(self) -> str:
        """The program's output, when it is done."""
        finished = self._process.wait()
        if finished.status != 0:
            raise FirewallError(self._argv, finished)
        return finished.output.decode("utf-8", "replace")


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise CniError(f"{name} is not installed: install it, or choose the other firewall backend")
    return path


def _iptables(of_family: int) -> str:
    return "iptables" if of_family == AF_INET else "ip6tables"


def may_have_chain(of_family: int, table: str, chain: str) -> bool:
    """Whether iptables may have this chain, asked without a program; not where iptables is not installed."""
    in_nftables = chain_exists(of_family, table, chain)
    return (in_nftables or legacy_table_in_use(of_family, table)) and find_program(_iptables(of_family)) is not None


def prepare_iptables(of_family: int) -> Transaction:
    """Start the program that `start_iptables` needs, before it is known what it is to do."""
    return Transaction([f"{_iptables(of_family)}-restore", "--noflush", "--wait"], None)


def start_iptables(of_family: int, table: str, commands: list[str], prepared: Transaction | None = None) -> Transaction:
    """Begin to apply commands such as `-A POSTROUTING ...` to one table, all or none. `:NAME - [0:0]` makes a chain."""
    script = "\n".join([f"*{table}", *commands, "COMMIT", ""])
    return (prepared or prepare_iptables(of_family)).feed(script)


def list_iptables(table: str, families: tuple[int, ...] = (AF_INET, AF_INET6)) -> dict[int, list[str]]:
    """One table as `iptables -S` prints it for each family: -P, -N and -A lines. The programs run side by side."""
    listings = {of_family: Transaction([_iptables(of_family), "--wait", "-t", table, "-S"]) for of_family in families}
    return {of_family: _lines(listing) for of_family, listing in listings.items()}


def _lines(listing: Transaction) -> list[str]:
    try:
        return listing.wait().splitlines()
    except FirewallError as error:
        if error.nothing_there:
            return []
        raise


def prepare_nft() -> Transaction:
    """Start the program that `start_nft` needs, before it is known what it is to do."""
    return Transaction(["nft", "-f", "-"], None)


def start_nft(script: str, prepared: Transaction | None = None) -> Transaction:
    """Begin to apply an nft script, all or none."""
    return (prepared or prepare_nft()).feed(script)


def list_nft(of_family: str, table: str, chain: str) -> list[str]:
    """The rules of one chain, each ending in `# handle N`; empty when there is no such chain."""
    return _lines(Transaction(["nft", "-a", "list", "chain", of_family, table, chain]))


def list_nft_table(of_family: str, table: str) -> list[str]:
    """A whole table, each rule ending in `# handle N`; empty when there is no such table."""
    return _lines(Transaction(["nft", "-a", "list", "table", of_family, table]))
