"""flannel: tells another plugin, usually bridge, what this node's overlay daemon has written into subnet.env.

ADD makes the delegate's configuration: the `delegate` section of its own, with name, mtu, masquerade and the subnet
filled in. That text is kept on disk, since DEL has to be told the same things even when subnet.env has changed or
gone in the meantime:

    <dataDir>/<container id>@<interface>    kept until the delegate's DEL has succeeded
    <dataDir>/<container id>                the same for the container's first interface, where the official plugin
                                            looks, so that each can clean up after the other

The official plugin knows the second file only: another interface of the same container overwrites it, and it is
removed even if the delegate's DEL failed; both leak an address and a veth. Here neither happens. Without any file,
DEL makes the configuration anew, even without a subnet.env, and tries all the same.
"""

from __future__ import annotations

from cni.lib.delegate import delegate, find_plugin
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError
from cni.lib.gojson import Fields, JsonSyntaxError, JsonTypeError, dumps, loads, lookup
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.store import list_directory, make_directory, read_file, remove, temporary_of, write_atomic
from cni.lib.subnet_env import SubnetEnv
from cni.lib.types import Result, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SUBNET_FILE = "/run/flannel/subnet.env"
DEFAULT_DATA_DIR = "/var/lib/cni/flannel"
ANY_SUBNET = "192.0.2.0/24"  # for documentation (RFC 5737): host-local wants a range even where it makes no use of it
GC_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError."""
        try:
            fields = call.fields()
            self.subnet_file = fields.file_name("subnetFile", DEFAULT_SUBNET_FILE)
            self.data_dir = fields.file_name("dataDir", DEFAULT_DATA_DIR)
            self.delegate = _section(fields, "delegate")
            self.ipam = _section(fields, "ipam")
            self.runtime_config = lookup(call.conf, "runtimeConfig")
            self.own_version = fields.text("cniVersion")
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def check_delegate(self) -> None:
        """Refuse what cannot be delegated. DEL never does, as long as it knows what the ADD has delegated."""
        if not isinstance(self.delegate.get("type", ""), str):
            raise CniError("'delegate' dictionary, if present, must have (string) 'type' field")
        for key in ("name", "ipam"):
            if key in self.delegate:
                raise CniError(f"'delegate' dictionary must not have '{key}' field, it'll be set by flannel")


def _section(fields: Fields, key: str) -> dict[str, Any]:
    section = fields.child(key, "map[string]interface {}")
    return dict(section.data) if section else {}


def delegate_conf(call: Call, config: Config, env: SubnetEnv) -> dict[str, Any]:
    """The delegate's configuration: what the user gave it, completed from subnet.env. Raises CniError."""
    config.check_delegate()
    conf = dict(config.delegate)
    if config.runtime_config is not None:
        conf["runtimeConfig"] = config.runtime_config
    conf["name"] = call.name
    conf.setdefault("type", "bridge")
    conf.setdefault("ipMasq", not env.ip_masq)
    conf.setdefault("mtu", env.mtu)
    if conf["type"] == "bridge":
        conf.setdefault("isGateway", True)
        if env.gso_max_size:
            conf.setdefault("gsoMaxSize", env.gso_max_size)
    if config.own_version:
        conf["cniVersion"] = config.own_version
    conf["ipam"] = _delegate_ipam(config, env)
    return conf


def _delegate_ipam(config: Config, env: SubnetEnv) -> dict[str, Any]:
    ipam = dict(config.ipam)
    ipam.setdefault("type", "host-local")
    ipam["ranges"] = [[{"subnet": str(subnet)}] for subnet in (env.subnet, env.subnet_v6) if subnet]
    given = Fields(ipam, "IPAM").children("routes", "Route")
    routes = [Route.read(item).to_json() for item in given]
    ipam["routes"] = routes + [{"dst": str(network)} for network in env.networks + env.networks_v6]
    return ipam


class SavedConf:
    """The files that keep an attachment's delegate configuration."""

    def __init__(self, data_dir: str, container_id: str, ifname: str) -> None:
        self._data_dir = data_dir
        self._shared = f"{data_dir}/{container_id}"
        self._own = f"{data_dir}/{container_id}@{ifname}"

    def save(self, conf: dict[str, Any]) -> None:
        """Keep `conf`. Raises OSError."""
        make_directory(self._data_dir, 0o700)
        text = dumps(conf, sort_keys=True).encode()
        write_atomic(self._own, text)
        if read_file(self._shared) is None:
            write_atomic(self._shared, text)

    def load(self, network: str) -> dict[str, Any] | None:
        """The kept configuration, None if there is none for this network or it is torn."""
        for path in (self._own, self._shared):
            conf = decode(read_file(path))
            if conf is not None and conf.get("name") == network:
                return conf
        return None

    def forget(self) -> None:
        """Remove what `save` made."""
        own = read_file(self._own)
        if own is None or own == read_file(self._shared):
            remove(self._shared)
        for path in (self._own, temporary_of(self._own), temporary_of(self._shared)):
            remove(path)


def decode(text: bytes | None) -> dict[str, Any] | None:
    """A configuration from a file's content; None if it is not one that could be delegated."""
    try:
        conf = loads(text or b"")
    except JsonSyntaxError:
        return None
    return conf if isinstance(conf, dict) and isinstance(conf.get("type"), str) else None


def add(call: Call) -> Result | None:
    """Complete the delegate's configuration, keep it, and run the delegate."""
    config = Config(call)
    config.check_delegate()
    conf = delegate_conf(call, config, SubnetEnv(config.subnet_file))
    saved = SavedConf(config.data_dir, call.container_id, call.ifname)
    saved.save(conf)
    try:
        return delegate(call, conf["type"], "ADD", conf)
    except CniError as error:
        _undo(call, conf, saved, error)
        raise CniError(f"failed to delegate add: {error.msg}", error.code, error.details) from None


def _undo(call: Call, conf: dict[str, Any], saved: SavedConf, failure: CniError) -> None:
    """After a failed ADD: let the delegate clean up.

    If it cannot either, its configuration stays for the runtime's DEL, unless it fails at the very same thing: then it
    refuses the configuration, or is not there, and has made nothing.
    """
    try:
        delegate(call, conf["type"], "DEL", conf)
    except CniError as error:
        if error.msg != failure.msg:
            return
    saved.forget()


def delete(call: Call) -> None:
    """Run the delegate with the configuration of its ADD, and forget that when it has succeeded.

    If it refuses that one, or there is none, the configuration that an ADD would use now is the next best; without a
    subnet.env, one that names the delegate and its IPAM plugin, since a DEL needs no more.
    """
    config = Config(call)
    saved = SavedConf(config.data_dir, call.container_id, call.ifname)
    failure = None
    kept, current = saved.load(call.name), _current_conf(call, config)
    for conf in filter(None, (kept, current or _bare_conf(call, config))):
        try:
            delegate(call, conf["type"], "DEL", conf)
            failure = None
            break
        except CniError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    saved.forget()


def _current_conf(call: Call, config: Config) -> dict[str, Any] | None:
    """The configuration that an ADD would use now, None without a usable subnet.env."""
    try:
        return delegate_conf(call, config, SubnetEnv(config.subnet_file))
    except CniError:
        return None


def _bare_conf(call: Call, config: Config) -> dict[str, Any] | None:
    """Enough of the delegate's configuration for what it made to be found; None if there is no such plugin either.

    The range in it stands for whatever it was.
    """
    conf = {"type": "bridge", **config.delegate, "name": call.name, "cniVersion": call.version}
    conf["ipam"] = {"type": "host-local", **config.ipam, "ranges": [[{"subnet": ANY_SUBNET}]]}
    return conf if _is_there(conf, call) else None


def _is_there(conf: dict[str, Any], call: Call) -> bool:
    """Whether there is a plugin of the type that a delegate's configuration names."""
    try:
        find_plugin(conf["type"], call.path)
    except (CniError, TypeError):
        return False
    return True


def check(call: Call) -> None:
    """The delegate checks what it made."""
    config = Config(call)
    conf = SavedConf(config.data_dir, call.container_id, call.ifname).load(call.name)
    if conf is None:
        conf = delegate_conf(call, config, SubnetEnv(config.subnet_file))
    previous = lookup(call.conf, "prevResult")
    if previous is not None:
        conf = {**conf, "prevResult": previous}
    delegate(call, conf["type"], "CHECK", conf)


def gc(call: Call) -> None:
    """Remove the kept configurations of pods that are gone, after the delegate has removed what it made for them."""
    valid = call.valid_attachments()
    if valid is None:
        return
    config = Config(call)
    stale = _stale_files(config.data_dir, call.name, valid)
    confs = {conf["type"]: conf for conf in stale.values() if conf and _is_there(conf, call)}
    current = _current_conf(call, config) or _bare_conf(call, config)
    confs |= {current["type"]: current} if current else {}
    given = {key: value for key in GC_KEYS if (value := lookup(call.conf, key)) is not None}
    failures = [error for conf in confs.values() if (error := _collect(call, {**conf, **given}))]
    if failures:
        raise failures[0]
    for path in stale:
        remove(path)


def _collect(call: Call, conf: dict[str, Any]) -> CniError | None:
    """Have a delegate collect; what it failed with, so that the others come to their turn."""
    try:
        delegate(call, conf["type"], "GC", conf)
    except CniError as error:
        return error
    return None


def _stale_files(data_dir: str, network: str, valid: set[Attachment]) -> dict[str, dict[str, Any] | None]:
    """The files of this network's attachments that are not valid, with their content.

    Half-written ones count as well, with None, whatever network they are of: they are of use to nobody.
    """
    ids = {attachment.container_id for attachment in valid}
    stale = {}
    for name in list_directory(data_dir):
        final_name = name.removeprefix(".").removesuffix(".tmp") if name.startswith(".") else name
        container_id, own, ifname = final_name.partition("@")
        if Attachment(container_id, ifname) in valid if own else container_id in ids:
            continue
        conf = decode(read_file(f"{data_dir}/{name}"))
        if conf is None or conf.get("name") == network:
            stale[f"{data_dir}/{name}"] = conf
    return stale


def status(call: Call) -> None:
    """Ready when subnet.env is complete and the delegate is ready."""
    config = Config(call)
    config.check_delegate()
    try:
        env = SubnetEnv(config.subnet_file)
    except CniError as error:
        raise CniError(error.msg, PLUGIN_NOT_AVAILABLE, error.details) from None
    conf = delegate_conf(call, config, env)
    delegate(call, conf["type"], "STATUS", conf)


PLUGIN = Plugin("flannel", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
