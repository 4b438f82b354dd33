"""tuning: changes sysctls and link attributes of a pod's interface that other plugins have made.

ADD saves what it is about to change in dataDir/<container id>_<interface>.json, in the official plugin's form, and
changes it. DEL puts the link's attributes back, which matters where the interface outlives the pod (a physical one,
say), and removes the file in any case. Sysctls die with the pod's namespace; only a failed ADD puts them back.

Where /etc/cni/tuning/allowlist.conf exists, a sysctl is refused unless one of its lines, a regular expression, is
found in the sysctl's name.
"""

from __future__ import annotations

from cni.lib import links, sysctl
from cni.lib.args import parse_args
from cni.lib.errors import CniError, describe
from cni.lib.gojson import Fields, JsonSyntaxError, JsonTypeError, dumps, kind, loads, lookup
from cni.lib.netlink import NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import Netns
from cni.lib.rollback import Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.store import discard, is_temporary, list_directory, make_directory, read_file, remove, write_atomic
from cni.lib.tenant import is_anothers
from cni.lib.types import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_DATA_DIR = "/run/cni/tuning"
ALLOWLIST = "/etc/cni/tuning/allowlist.conf"
SWAPPED = {ord("."): "/", ord("/"): "."}


class Attributes:
    """Values for a link; None leaves one alone."""

    def __init__(self, fields: Fields | None = None) -> None:
        self.mac: str | None = None
        self.promisc: bool | None = None
        self.mtu: int | None = None
        self.allmulti: bool | None = None
        self.tx_queue_len: int | None = None
        if fields is not None:
            self._read(fields)

    def _read(self, fields: Fields) -> None:
        """Take what the object has; zero and the empty string mean nothing. Raises JsonTypeError."""
        self.mac = fields.text("mac") or self.mac
        self.mtu = fields.number("mtu") or self.mtu
        for name, key in (("promisc", "promisc"), ("allmulti", "allmulti")):
            if lookup(fields.data, key) is not None:
                setattr(self, name, fields.flag(key))
        if lookup(fields.data, "txQLen") is not None:
            self.tx_queue_len = fields.number("txQLen")

    def override(self, fields: Fields) -> None:
        """Let another object's values win."""
        self._read(fields)

    def to_json(self) -> dict[str, Any]:
        """The attributes that are set, under the keys of the configuration."""
        values = {
            "mac": self.mac,
            "promisc": self.promisc,
            "mtu": self.mtu,
            "allmulti": self.allmulti,
            "txQLen": self.tx_queue_len,
        }
        return {key: value for key, value in values.items() if value is not None}


class Config:
    """What the network configuration says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            self._read(call)
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def _read(self, call: Call) -> None:
        fields = call.fields("TuningConf")
        self.data_dir = fields.file_name("dataDir", DEFAULT_DATA_DIR)
        self.backup_path = f"{self.data_dir}/{backup_name(Attachment(call.container_id, call.ifname))}"
        self.sysctls = _read_sysctls(fields)
        self.wanted = Attributes(fields)
        if not self.wanted.promisc:
            self.wanted.promisc = None  # false is the default and leaves the mode alone
        self.wanted.mac = parse_args(call, ("MAC",)).get("MAC", "") or self.wanted.mac
        runtime_config = fields.child("runtimeConfig", "")
        if runtime_config is not None:
            self.wanted.mac = runtime_config.text("mac") or self.wanted.mac
        args = fields.child("args", "")
        cni_args = args and args.child("cni", "IPAMArgs")
        if cni_args:
            self.sysctls.update(_read_sysctls(cni_args))
            self.wanted.override(cni_args)


def _read_sysctls(fields: Fields) -> dict[str, str]:
    section = fields.child("sysctl", "", "map[string]string")
    values = section.data if section else {}
    for value in values.values():
        if value is not None and not isinstance(value, str):
            field = f"{fields.struct}.{fields.path}sysctl"
            raise JsonTypeError(f"json: cannot unmarshal {kind(value)} into Go struct field {field} of type string")
    return {key: value or "" for key, value in values.items()}


def backup_name(attachment: Attachment) -> str:
    """The name of an attachment's backup file."""
    return f"{attachment.container_id}_{attachment.ifname}.json"


def add(call: Call) -> Result:
    """Change what the configuration asks for."""
    _check_sysctl_section(call)
    config = Config(call)
    _check_allowlist(config)
    previous = call.prev_result("TuningConf")
    if previous is None:
        raise CniError("Required prevResult missing")
    netns = Netns(call.netns)
    with Rollback() as rollback:
        _write_sysctls(config, netns, call.ifname, rollback)
        if config.wanted.to_json():
            with netns.netlink() as inside:
                before = _current(inside, call.ifname, config.wanted)
                _save_backup(config, call.name, before)
                rollback.push(lambda: _restore(call, config.backup_path))
                apply(inside, call.ifname, config.wanted)
        rollback.pop_all()
    for interface in previous.interfaces:
        if interface.name == call.ifname and config.wanted.mac:
            interface.mac = config.wanted.mac
    return previous


def _check_sysctl_section(call: Call) -> None:
    """Refuse one that cannot be read, and a sysctl that is given twice: of two values none is the right one."""
    if lookup(call.conf, "sysctl") is None:
        return
    try:
        _read_sysctls(call.fields("sysctlCheck"))
    except JsonTypeError as error:
        raise CniError(str(error)) from None
    from json import JSONDecoder

    def refuse(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            if key.casefold() == "sysctl" and isinstance(value, list) and len(value) != len(dict(value)):
                raise CniError("duplicated sysctl keys are not allowed")
        return pairs  # type: ignore[return-value]  # an object stays a list of pairs until its parent has seen it

    JSONDecoder(object_pairs_hook=refuse).decode(call.stdin.decode("utf-8", "replace"))


def _check_allowlist(config: Config) -> None:
    allowed = read_file(ALLOWLIST)
    if allowed is None:
        return
    import re

    patterns = [line.strip() for line in allowed.decode("utf-8", "replace").split("\n") if line.strip()]
    for name in config.sysctls:
        try:
            if any(re.search(pattern, name) for pattern in patterns):
                continue
        except re.error as error:
            raise CniError(f"{ALLOWLIST}: {error.pattern!r} is not a regular expression: {error}") from None
        listed = " ".join(patterns)
        raise CniError(f"Sysctl {name} is not allowed. Only the following sysctls are allowed: [{listed}]")


def setting_of(name: str, ifname: str) -> str:
    """The path of a sysctl below /proc/sys. Raises CniError for one outside of net.

    As sysctl(8) reads it: the first dot or slash is the separator, and the other of the two is then a dot in a name:
    `net/ipv4/conf/eth0.100/mtu` or `net.ipv4.conf.eth0/100.mtu`. No part leads upwards.
    """
    key = name.translate(SWAPPED) if name.partition("/")[0].find(".") >= 0 else name
    key = key.replace("IFNAME", ifname, 1)
    parts = [part for part in key.split("/") if part not in ("", ".", "..")]
    if len(parts) < 2 or parts[0] != "net":
        raise CniError(f"invalid net sysctl key: {dumps(key)}")
    return "/".join(parts)


def _write_sysctls(config: Config, netns: Netns, ifname: str, rollback: Rollback) -> None:
    for name, value in config.sysctls.items():
        setting = setting_of(name, ifname)
        try:
            with netns:
                former = _read_if_readable(setting)
                sysctl.write(setting, value)
        except (OSError, ValueError) as error:
            problem = describe(error)
            raise CniError(
                problem if problem.startswith("open ") else f"write /proc/sys/{setting}: {problem}"
            ) from None
        if former is not None:
            _push_former(rollback, netns, setting, former)


def _read_if_readable(setting: str) -> str | None:
    """A sysctl's value; None for one that can only be written to, such as net/ipv4/route/flush. Raises OSError."""
    try:
        return sysctl.read(setting)
    except PermissionError:
        return None


def _push_former(rollback: Rollback, netns: Netns, setting: str, former: str) -> None:
    def write_former() -> None:
        with netns:
            sysctl.try_write(setting, former)

    rollback.push(write_former)


def _find(inside: NetlinkSocket, ifname: str) -> links.Link:
    link = links.find_link(inside, ifname)
    if link is None:
        raise CniError(f"failed to get {dumps(ifname)}: Link not found")
    return link


def _current(inside: NetlinkSocket, ifname: str, wanted: Attributes) -> Attributes:
    """What the link has now of the attributes that are wanted otherwise."""
    link = _find(inside, ifname)
    current = Attributes()
    current.mac = link.mac if wanted.mac is not None else None
    current.promisc = link.promiscuous if wanted.promisc is not None else None
    current.mtu = link.mtu if wanted.mtu is not None else None
    current.allmulti = _is_allmulti(link) if wanted.allmulti is not None else None
    current.tx_queue_len = link.tx_queue_len if wanted.tx_queue_len is not None else None
    return current


def _is_allmulti(link: links.Link) -> bool:
    return bool(link.flags & links.IFF_ALLMULTI)


def _save_backup(config: Config, network: str, before: Attributes) -> None:
    """Remember what there was before the first ADD; a repeated one would save what the first has made of it."""
    saved = _read_backup(config.backup_path)
    content = {**before.to_json(), **(saved.to_json() if saved else {}), "network": network}
    try:
        make_directory(config.data_dir, 0o600)
        write_atomic(config.backup_path, dumps(content, indent=1).encode())
    except OSError as error:
        raise CniError(f"failed to save file {config.backup_path}: {describe(error)}") from error


def _read_backup(path: str) -> Attributes | None:
    """A backup, None if there is none or it cannot be read."""
    content = _read_json(path)
    try:
        return Attributes(Fields(content, "configToRestore")) if content is not None else None
    except JsonTypeError:
        return None


def _read_json(path: str) -> dict[str, Any] | None:
    data = read_file(path)
    try:
        content = loads(data) if data is not None else None
    except JsonSyntaxError:
        return None
    return content if isinstance(content, dict) else None


def apply(inside: NetlinkSocket, ifname: str, wanted: Attributes) -> None:
    """Change the link. Raises CniError, OSError."""
    index = _find(inside, ifname).index
    if wanted.mac is not None:
        mac = links.parse_mac(wanted.mac)
        if mac is None:
            raise CniError(f"invalid args {wanted.mac} for MAC addr: address {wanted.mac}: invalid MAC address")
        links.set_link(inside, index, attribute(links.IFLA_ADDRESS, mac))
    for value, flag in ((wanted.promisc, links.IFF_PROMISC), (wanted.allmulti, links.IFF_ALLMULTI)):
        if value is not None:
            links.set_link(inside, index, flags=flag if value else 0, change=flag)
    numbers = (("mtu", wanted.mtu, links.IFLA_MTU), ("txQLen", wanted.tx_queue_len, links.IFLA_TXQLEN))
    for name, number, attribute_kind in numbers:
        if number is not None:
            if not 0 <= number < 1 << 32:
                raise CniError(f"invalid value {number} for {name}")
            links.set_link(inside, index, attribute_u32(attribute_kind, number))


def _restore(call: Call, backup_path: str) -> None:
    """Put back what the backup holds, if the link is there and not another pod's, and remove the backup."""
    saved = _read_backup(backup_path)
    with Netns(call.netns).netlink() as inside:
        link = links.find_link(inside, call.ifname)
        if saved is not None and link is not None and not is_anothers(link, call):
            apply(inside, call.ifname, saved)
    discard(backup_path)


def delete(call: Call) -> None:
    """Put the link's attributes back; with the pod gone, there is only the backup to remove."""
    config = Config(call)
    try:
        _restore(call, config.backup_path)
    except (CniError, OSError):
        discard(config.backup_path)


def check(call: Call) -> None:
    """Everything that is configured has to be as configured."""
    _check_sysctl_section(call)
    config = Config(call)
    if call.prev_result("TuningConf") is None:
        raise CniError("Required prevResult missing")
    netns = Netns(call.netns)
    with netns:
        _check_sysctls(config, call.ifname)
    with netns.netlink() as inside:
        link = links.find_link(inside, call.ifname)
        if link is None:
            raise CniError(f"Cannot find container link {call.ifname}")
        _check_link(link, config.wanted)


def _check_sysctls(config: Config, ifname: str) -> None:
    for name, wanted in config.sysctls.items():
        setting = setting_of(name, ifname)
        try:
            current = _read_if_readable(setting)
        except OSError as error:
            raise CniError(describe(error)) from None
        if current is not None and current.split() != wanted.split():  # "1 2 3" is read back with tabs
            path = sysctl.path(setting)
            raise CniError(f"Error: Tuning configured value of {path} is {wanted}, current value is {current}")


def _check_link(link: links.Link, wanted: Attributes) -> None:
    prefix = "Error: Tuning configured"
    if wanted.mac is not None and links.parse_mac(wanted.mac) != links.parse_mac(link.mac):
        raise CniError(f"{prefix} Ethernet of {link.name} is {wanted.mac}, current value is {link.mac}")
    if bool(wanted.promisc) != link.promiscuous:
        states = f"{str(bool(wanted.promisc)).lower()}, current value is {int(link.promiscuous)}"
        raise CniError(f"Error: Tuning link {link.name} configured promisc is {states}")
    if wanted.mtu is not None and wanted.mtu != link.mtu:
        raise CniError(f"{prefix} MTU of {link.name} is {wanted.mtu}, current value is {link.mtu}")
    if wanted.allmulti is not None and wanted.allmulti != _is_allmulti(link):
        states = f"{str(wanted.allmulti).lower()}, current value is {str(_is_allmulti(link)).lower()}"
        raise CniError(f"{prefix} all-multicast mode of {link.name} is {states}")
    if wanted.tx_queue_len is not None and wanted.tx_queue_len != link.tx_queue_len:
        queue_len = link.tx_queue_len
        states = f"{wanted.tx_queue_len}, current value is {queue_len}"
        raise CniError(f"{prefix} Transmit Queue Length of {link.name} is {states}")


def gc(call: Call) -> None:
    """Remove the backups of this network's pods that are gone, and half-written ones, which are of use to nobody."""
    valid = call.valid_attachments()
    if valid is None:
        return
    data_dir = Config(call).data_dir
    keep = {backup_name(attachment) for attachment in valid}
    for name in list_directory(data_dir):
        if name in keep:
            continue
        content = _read_json(f"{data_dir}/{name}")
        if is_temporary(name) if content is None else content.get("network") == call.name:
            remove(f"{data_dir}/{name}")


def status(call: Call) -> None:
    """Nothing is needed beforehand but a configuration that can be read."""
    Config(call)


PLUGIN = Plugin("tuning", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
