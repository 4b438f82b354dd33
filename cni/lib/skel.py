"""The CNI protocol: environment and stdin in, one JSON document on stdout and an exit status out.

A plugin is a table of functions (`Plugin`); this module does what all of them share:

1. CNI_COMMAND says the verb. Without one the plugin introduces itself on stderr.
2. The variables that the verb needs are checked (`Call` holds them).
3. stdin is read and decoded, its `name` and its `cniVersion` are checked; VERSION needs none of this.
4. The verb's function runs. What ADD returns is printed in the version of the configuration.
5. Whatever goes wrong becomes one error object on stdout and exit status 1.

The order of these checks and the texts are those of the official skeleton (containernetworking/cni, pkg/skel), since
users and their tools search for them. `run` is all of it without a process around it, which is how tests and
in-process delegation use it.
"""

from __future__ import annotations

from cni.lib.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_ENVIRONMENT,
    INVALID_NETNS,
    INVALID_NETWORK_CONFIG,
    IO_FAILURE,
    CniError,
    describe,
)
from cni.lib.gojson import Fields, JsonSyntaxError, JsonTypeError, dumps, kind, loads, lookup
from cni.lib.lean import end_process, environment, os
from cni.lib.store import same_file, write_all
from cni.lib.types import Result
from cni.lib.versions import VERSIONS, answer, at_least, spoken_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    Verb = Callable[["Call"], "Result | None"]

# Every variable, in the order in which a bad one is reported, with the verbs that cannot do without it.
REQUIRED_BY = {
    "CNI_CONTAINERID": ("ADD", "CHECK", "DEL"),
    "CNI_NETNS": ("ADD", "CHECK"),
    "CNI_IFNAME": ("ADD", "CHECK", "DEL"),
    "CNI_ARGS": (),
    "CNI_PATH": ("ADD", "CHECK", "DEL", "GC", "STATUS"),
}
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
NAME_REST = NAME_FIRST | frozenset("_.-")
IFNAME_BYTES = 15
LONE_SURROGATES = frozenset(map(chr, range(0xDC80, 0xDD00)))
"""What stands for the bytes of the environment that are no UTF-8 (cni.lib.lean.environment)."""


class Plugin:
    """A plugin's name, the versions it speaks, and its verbs."""

    def __init__(self, name: str, *, add: Verb, delete: Verb, check: Verb, gc: Verb, status: Verb) -> None:
        self.name = name
        self.versions = spoken_by(name)
        self.verbs: dict[str, Verb] = {"ADD": add, "DEL": delete, "CHECK": check, "GC": gc, "STATUS": status}


class Attachment:
    """A container's interface in a network, as GC lists the live ones."""

    __slots__ = ("container_id", "ifname")

    def __init__(self, container_id: str, ifname: str) -> None:
        self.container_id = container_id
        self.ifname = ifname

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attachment) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[str, str]:
        """Both parts, for comparing."""
        return self.container_id, self.ifname


class Call:
    """One invocation: the verb, the container, and the network configuration as it was read (`conf`, `stdin`)."""

    def __init__(self, env: Mapping[str, str], stdin: bytes = b"") -> None:
        self.env = dict(env)
        self.command = env.get("CNI_COMMAND", "")
        self.container_id = env.get("CNI_CONTAINERID", "")
        self.netns = env.get("CNI_NETNS", "")
        self.ifname = env.get("CNI_IFNAME", "")
        self.args = env.get("CNI_ARGS", "")
        self.path = [part for part in env.get("CNI_PATH", "").split(":") if part]
        self.stdin = stdin
        self.conf: dict[str, Any] = {}
        self.name = ""
        self.version = ""

    def for_delegate(self, command: str, conf: dict[str, Any] | None = None) -> Call:
        """The call that a delegate is to get: another verb, and another configuration if one is given."""
        call = Call({**self.env, "CNI_COMMAND": command}, self.stdin if conf is None else dumps(conf).encode())
        call.conf = self.conf if conf is None else conf
        call.name, call.version = self.name, self.version
        return call

    def fields(self, struct: str = "NetConf") -> Fields:
        """The configuration as a Go struct."""
        return Fields(self.conf, struct)

    def prev_result(
        self, struct: str = "NetConf", no_object: str = "failed to load netconf: ", unreadable: str = ""
    ) -> Result | None:
        """The result of the plugins before this one in the chain, or None.

        The plugin's words stand before the messages: `no_object` where its `struct` cannot take the value, `unreadable`
        where that is no result. Raises CniError.
        """
        data = lookup(self.conf, "prevResult")
        if data is None:
            return None
        try:
            self.fields(struct).child("prevResult", "", "map[string]interface {}")
        except JsonTypeError as error:
            raise CniError(f"{no_object}{error}") from None
        try:
            return Result.from_json(data, self.version)
        except (CniError, JsonTypeError) as error:
            raise CniError(f"{unreadable}could not parse prevResult: {describe(error)}") from None

    def prev_result_if_any(self) -> Result | None:
        """For DEL: `prev_result`, None also for one that cannot be read."""
        try:
            return self.prev_result()
        except (CniError, ValueError):
            return None

    def valid_attachments(self) -> set[Attachment] | None:
        """For GC: what is alive, or None if the runtime did not say, in which case nothing may be removed."""
        fields = self.fields()
        key = "cni.dev/valid-attachments"
        if lookup(self.conf, key) is None:
            key = "cni.dev/attachments"
            if lookup(self.conf, key) is None:
                return None
        items = fields.children(key, "GCAttachment")
        return {Attachment(item.text("containerID"), item.text("ifname")) for item in items}


class Outcome:
    """What the process is to print and how it is to exit."""

    __slots__ = ("errors", "output", "status")

    def __init__(self, status: int, output: str = "", errors: str = "") -> None:
        self.status = status
        self.output = output
        self.errors = errors


UNHEARD = Outcome(1, "", "stdout is closed, so nobody would get the result of the ADD: nothing was done\n")


def run(plugin: Plugin, env: Mapping[str, str], read_stdin: Callable[[], bytes]) -> Outcome:
    """Do what the environment asks for. Never raises for bad input, whatever it is."""
    command = env.get("CNI_COMMAND", "")
    if not command:
        return Outcome(0, "", introduction(plugin))
    if command == "VERSION":
        return Outcome(0, answer(plugin.name))
    try:
        call = Call(env)
        check_environment(call)
        call.stdin = _read(read_stdin)
        decode(call)
        result = invoke(plugin, call)
        return Outcome(0, _in_words(plugin, call, result) if result else "")
    except CniError as error:
        return Outcome(1, print_error(error))


def _in_words(plugin: Plugin, call: Call, result: Result) -> str:
    """The result of an ADD in the configuration's version. If that cannot hold it, nobody gets it: it is undone."""
    try:
        return result.print(call.version)
    except CniError:
        try:
            invoke(plugin, call.for_delegate("DEL"))
        except CniError:  # the ADD's own error is the one to report
            pass
        raise


def introduction(plugin: Plugin) -> str:
    """What a plugin says to a person who runs it by hand."""
    return f"CNI {plugin.name} plugin of udplane\nCNI protocol versions supported: {', '.join(plugin.versions)}\n"


def print_error(error: CniError) -> str:
    """The error object."""
    shape: dict[str, Any] = {"code": error.code, "msg": error.msg}
    if error.details:
        shape["details"] = error.details
    return dumps(shape, indent=4)


def _read(read_stdin: Callable[[], bytes]) -> bytes:
    try:
        return read_stdin()
    except OSError as error:
        raise CniError(f"error reading from stdin: {describe(error)}", IO_FAILURE) from None


def check_environment(call: Call) -> None:
    """Refuse an unknown verb, and variables that are missing or unusable."""
    if call.command not in ("ADD", "DEL", "CHECK", "GC", "STATUS"):
        raise CniError(f"unknown CNI_COMMAND: {call.command}", INVALID_ENVIRONMENT)
    missing = []
    for variable, verbs in REQUIRED_BY.items():
        value = call.env.get(variable, "")
        if not value:
            if call.command in verbs:
                missing.append(variable)
        elif variable == "CNI_CONTAINERID":
            _check_name(value, "invalid characters in containerID", INVALID_ENVIRONMENT)
        elif variable == "CNI_IFNAME":
            _check_ifname(value)
    if missing:
        raise CniError(f"required env variables [{','.join(missing)}] missing", INVALID_ENVIRONMENT)


def _check_name(value: str, complaint: str, code: int) -> None:
    """Container ids and network names: a letter or digit, then letters, digits, and _ . -"""
    if value[0] not in NAME_FIRST or not NAME_REST.issuperset(value):
        raise CniError(complaint, code, value)


def _check_ifname(name: str) -> None:
    complaint = None
    if len(name.encode("utf-8", "surrogateescape")) > IFNAME_BYTES:
        raise CniError(
            "interface name is too long", INVALID_ENVIRONMENT, "interface name should be less than 16 characters"
        )
    if name in (".", ".."):
        complaint = "interface name is . or .."
    elif any(character in "/:" or character.isspace() for character in name):
        complaint = "interface name contains / or : or whitespace characters"
    elif not LONE_SURROGATES.isdisjoint(name):
        complaint = "interface name is not UTF-8, so no result could tell it"
    if complaint:
        raise CniError(complaint, INVALID_ENVIRONMENT)


def decode(call: Call) -> None:
    """Read the configuration from stdin into the call, with its name and version."""
    prefix = "error unmarshall network config: "
    try:
        conf = loads(call.stdin)
    except JsonSyntaxError as failure:
        raise CniError(prefix + str(failure), DECODING_FAILURE) from None
    if conf is None:
        conf = {}
    if not isinstance(conf, dict):
        go_type = 'struct { Name string "json:\\"name\\"" }'
        raise CniError(f"{prefix}json: cannot unmarshal {kind(conf)} into Go value of type {go_type}", DECODING_FAILURE)
    call.conf = conf
    fields = call.fields("")
    try:
        call.name = fields.text("name")
    except JsonTypeError as failure:
        raise CniError(prefix + str(failure), DECODING_FAILURE) from None
    if not call.name:
        raise CniError("missing network name", INVALID_NETWORK_CONFIG)
    _check_name(call.name, "invalid characters found in network name", INVALID_NETWORK_CONFIG)
    try:
        call.version = fields.text("cniVersion") or "0.1.0"
    except JsonTypeError as failure:
        raise CniError(f"decoding version from network config: {failure}", DECODING_FAILURE) from None


def invoke(plugin: Plugin, call: Call) -> Result | None:
    """Run the call's verb. Raises CniError, and nothing else."""
    _check_version(plugin, call)
    _refuse_own_netns(call)
    try:
        return plugin.verbs[call.command](call)
    except CniError:
        raise
    except Exception as error:
        raise CniError(describe(error), INTERNAL) from error


def _check_version(plugin: Plugin, call: Call) -> None:
    since = SINCE.get(call.command)
    if since and call.version in VERSIONS and not at_least(call.version, since):
        raise CniError(f"config version does not allow {call.command}", INCOMPATIBLE_VERSION)
    if call.version not in plugin.versions:
        supported = " ".join(f'"{version}"' for version in plugin.versions)
        details = f'config is "{call.version}", plugin supports [{supported}]'
        raise CniError("incompatible CNI versions", INCOMPATIBLE_VERSION, details)


def _refuse_own_netns(call: Call) -> None:
    """A pod's namespace that is the host's would have its interfaces taken. Refused before anything is done.

    For DEL it says that the pod's own namespace is gone (its path was that of a process, whose number has a new owner),
    so the DEL goes on as without one.
    """
    override = call.env.get("CNI_NETNS_OVERRIDE", "")
    if not call.netns or override == "1" or override.lower() == "true":
        return
    try:
        same = same_file(os.stat(call.netns), os.stat("/proc/thread-self/ns/net"))
    except (OSError, ValueError):  # the plugin itself says what is wrong with the path
        return
    if same and call.command == "DEL":
        call.netns = call.env["CNI_NETNS"] = ""
    elif same:
        raise CniError("plugin's netns and netns from CNI_NETNS should not be the same", INVALID_NETNS)


def _read_stdin() -> bytes:
    parts = []
    while part := os.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def main(plugin: Plugin) -> NoReturn:
    """Be the plugin's process."""
    env = environment()
    outcome = run(plugin, env, _read_stdin) if env.get("CNI_COMMAND") != "ADD" or _can_answer() else UNHEARD
    try:
        _write(2, outcome.errors)
        _write(1, outcome.output)
    except OSError:  # nobody reads the answer
        outcome.status = outcome.status or 1
    end_process(outcome.status)


def _can_answer() -> bool:
    """Whether stdout is open for writing. An ADD whose result nobody gets would leave an interface of nobody's."""
    try:
        os.write(1, b"")
    except OSError:
        return False
    return True


def _write(fd: int, text: str) -> None:
    """Write UTF-8, whatever the locale; bytes of the environment that are none become U+FFFD."""
    write_all(fd, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode())
