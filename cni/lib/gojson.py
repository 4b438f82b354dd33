"""JSON as Go's encoding/json reads and writes it, since that is what every CNI client speaks.

What differs from Python's json and matters here:

- An object's keys match a Go field whatever their case: containerd writes "HostPort", podman "hostPort".
- Of several members for one field the last counts, null leaves what the ones before said, and objects are merged.
- null means absent. A value of the wrong type is an error; "1400" is not an int, and neither is 1400.5.
- Output escapes <, >, & and the line separators U+2028 and U+2029.
- Invalid UTF-8 and lone surrogates are read as U+FFFD.

`Fields` is the view of one object through a Go struct: typed access, with Go's own error text on a wrong type.
"""

from __future__ import annotations

from cni.lib.lean import json_decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHITESPACE = " \t\n\r"


class JsonSyntaxError(ValueError):
    """Input that is not JSON; the text is Go's."""


def loads(raw: bytes) -> Any:
    """The one JSON value that `raw` holds. Raises JsonSyntaxError with the message that Go gives."""
    text = raw.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(WHITESPACE))
    try:
        value, end = json_decoder(merge_pairs)(text, start)
    except (StopIteration, ValueError, RecursionError, SystemError):
        # SystemError: the C scanner wants to raise an exception of the json package, which nobody has imported.
        raise _go_failure(text) from None
    if text[end:].strip(WHITESPACE):
        raise _go_failure(text)
    return _without_surrogates(value) if "\\u" in text else value


def _go_failure(text: str) -> JsonSyntaxError:
    from cni.lib.gosyntax import explain

    return JsonSyntaxError(explain(text))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
ESCAPES.update({code: f"\\u{code:04x}" for code in range(0x20)})
ESCAPES.update({ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})


def dumps(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as json.Marshal (indent None) or json.MarshalIndent (indent spaces a level) would print it."""
    return _dump(value, indent, sort_keys, "\n")


def _dump(value: Any, indent: int | None, sort_keys: bool, newline: str) -> str:
    if isinstance(value, str):
        return '"' + value.translate(ESCAPES) + '"'
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return _number(value)
    inner = newline + " " * (indent or 0)
    if isinstance(value, dict):
        colon = ":" if indent is None else ": "
        keys = sorted(value) if sort_keys else value
        parts = [_dump(key, None, False, "") + colon + _dump(value[key], indent, sort_keys, inner) for key in keys]
        brackets = "{}"
    else:
        parts = [_dump(item, indent, sort_keys, inner) for item in value]
        brackets = "[]"
    if not parts:
        return brackets
    if indent is None:
        return brackets[0] + ",".join(parts) + brackets[1]
    return brackets[0] + inner + ("," + inner).join(parts) + newline + brackets[1]


def _number(value: float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


class JsonTypeError(ValueError):
    """A JSON value of a type that the Go field does not take."""


def kind(value: Any) -> str:
    """What Go calls a JSON value in its messages."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def lookup(data: dict[str, Any], key: str) -> Any:
    """The value of `key`, in any letter case; None when absent or null. Of several, the last counts."""
    if len(data) == 0:
        return None
    folded = _fold(key)
    found = None
    for name, value in data.items():
        if value is not None and (name == key or _fold(name) == folded):
            found = later(found, value)
    return found


def _fold(name: str) -> str:
    """A key without its letter case, as Go compares it: U+017F and U+212A are an s and a k, and a sharp s is no ss."""
    return name.lower().replace("\u017f", "s")


def later(former: Any, value: Any) -> Any:
    """What a field holds when another value comes for it."""
    if value is None:
        return former
    if isinstance(former, dict) and isinstance(value, dict):
        return merge_pairs([*former.items(), *value.items()])
    return value


def merge_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its members. Where a key comes again, its place is that of the last one that counts."""
    merged = dict(pairs)
    if len(merged) == len(pairs):
        return merged
    merged = {}
    for name, value in pairs:
        if value is None and name in merged:
            continue
        merged[name] = later(merged.pop(name, None), value)
    return merged


# Keys whose field is in a struct that the outer one embeds: the messages name that struct before the key.
NET_CONF = dict.fromkeys(("capabilities", "dns", "ipam", "prevResult"), "NetConf.")
BANDWIDTH_ENTRY = dict.fromkeys(("ingressRate", "ingressBurst", "egressRate", "egressBurst"), "BandwidthEntry.")
EMBEDDED = {
    **dict.fromkeys(("NetConf", "TuningConf", "PortMapConf", "FirewallNetConf", "VRFNetConf"), NET_CONF),
    "PluginConf": {**NET_CONF, **BANDWIDTH_ENTRY},
    "IPAMConfig": dict.fromkeys(("subnet", "rangeStart", "rangeEnd", "gateway"), "Range."),
}


class Fields:
    """A JSON object as a Go struct: `struct` is that struct's name and `path` the dotted way to it, for messages.

    Messages have the name without its package: `types.PluginConf` is not the PluginConf of a plugin, which embeds it.
    """

    __slots__ = ("data", "path", "struct")

    def __init__(self, data: dict[str, Any], struct: str, path: str = "") -> None:
        self.data = data
        self.struct = struct
        self.path = path

    def _failure(self, value: Any, key: str, go_type: str) -> JsonTypeError:
        what = kind(value)
        if what == "number" and go_type.rstrip("0123456789") in ("int", "uint"):
            what = f"number {_number(value)}"
        field = f"{self.struct.rpartition('.')[2]}.{self._path_of(key)}"
        return JsonTypeError(f"json: cannot unmarshal {what} into Go struct field {field} of type {go_type}")

    def _path_of(self, key: str) -> str:
        return self.path + EMBEDDED.get(self.struct, {}).get(key, "") + key

    def text(self, key: str, default: str = "", go_type: str = "string") -> str:
        """A string field, or one of a `go_type` that is read from a string."""
        value = lookup(self.data, key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._failure(value, key, go_type)
        return value

    def file_name(self, key: str, default: str = "") -> str:
        """A string field that names a file, which holds no null byte. An empty one is `default`."""
        value = self.text(key)
        if "\0" in value:
            raise JsonTypeError(f"{key} holds a null byte, which no file's name can")
        return value or default

    def flag(self, key: str, default: bool = False) -> bool:
        """A bool field."""
        value = lookup(self.data, key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._failure(value, key, "bool")
        return value

    def number(self, key: str, default: int = 0, go_type: str = "int") -> int:
        """An integer field: int, int64, or an unsigned one, as `go_type` says."""
        value = lookup(self.data, key)
        if value is None:
            return default
        bits = 32 if go_type.endswith("32") else 64
        low, high = (0, 1 << bits) if go_type.startswith("uint") else (-1 << (bits - 1), 1 << (bits - 1))
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
            raise self._failure(value, key, go_type)
        return value

    def items(self, key: str, go_type: str) -> list[Any]:
        """An array field; `go_type` is the slice's type, such as `[]string`, for the message."""
        value = lookup(self.data, key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._failure(value, key, go_type)
        return value

    def texts(self, key: str) -> list[str]:
        """A []string field; a null among the items is an empty string."""
        items = self.items(key, "[]string")
        for item in items:
            if item is not None and not isinstance(item, str):
                raise self._failure(item, key, "string")
        return [item or "" for item in items]

    def child(self, key: str, struct: str, go_type: str = "") -> Fields | None:
        """A nested struct, or None when absent."""
        value = lookup(self.data, key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._failure(value, key, go_type or struct)
        return Fields(value, struct, self._path_of(key) + ".")

    def children(self, key: str, struct: str, go_type: str = "", go_slice: str = "") -> list[Fields]:
        """An array of nested structs; `go_type` and `go_slice` name their and its Go type, if not after `struct`."""
        found = []
        for item in self.items(key, go_slice or f"[]{go_type or struct}"):
            if item is not None and not isinstance(item, dict):
                raise self._failure(item, key, go_type or struct)
            found.append(Fields(item or {}, struct, self._path_of(key) + "."))
        return found
