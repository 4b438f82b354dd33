"""JSON as Go's encoding/json reads and writes it.

flannel's network config and lease values are written by people and by Go programs, and read by both. To
agree with them on every document, these functions follow Go's rules where Python's json module differs:

- a key is matched without regard to case, unknown keys are ignored;
- when a key comes more than once the last one counts, and `null` leaves the value as it was;
- `NaN` and `Infinity` are not JSON; a number with a fraction or an exponent is not an integer;
- invalid UTF-8 is replaced, not refused.

Every refusal is a `ConfigError` that names the document and the key.
"""

import json
import math
from typing import Any, NoReturn

from dataplane.errors import ConfigError

Object = dict[str, Any]


def _merge_pairs(pairs: list[tuple[str, Any]]) -> Object:
    """Make a dict whose order is the order of the deciding occurrences of its keys."""
    merged: Object = {}
    for key, value in pairs:
        if value is None and key in merged:
            continue
        merged.pop(key, None)
        merged[key] = value
    return merged


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def loads(document: str | bytes, name: str) -> Object:
    """Parse `document`, which must be one JSON object (or `null`, an empty one); `name` is for error texts."""
    if isinstance(document, bytes):
        document = document.decode("utf-8", "replace")
    try:
        value = json.loads(
            document, object_pairs_hook=_merge_pairs, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{name} is not valid JSON: {error.msg} at {place}; correct it there") from error
    except ValueError as error:
        raise ConfigError(f"{name} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{name} is nested too deeply to be read; remove the nesting") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a JSON object {{...}}, not {kind(value)}")
    return value


def dumps(value: Any) -> str:
    """Write `value` as Go's Marshal does: no spaces, `<`, `>`, `&` and the two line separators escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def lookup(source: Object, key: str) -> Any:
    """The deciding value of `key` in `source`, or None where the key is absent or null."""
    folded = _fold(key)
    for name, value in reversed(source.items()):
        if value is not None and _fold(name) == folded:
            return value
    return None


def _fold(name: str) -> str:
    """A key without its letter case, as Go compares it: U+017F and U+212A are an s and a k, and a sharp s is no ss."""
    return name.lower().replace("\u017f", "s")


def boolean(source: Object, key: str, default: bool) -> bool:
    """The truth value at `key`."""
    value = lookup(source, key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, not {kind(value)}")
    return value


def integer(source: Object, key: str, default: int, minimum: int, maximum: int) -> int:
    """The whole number at `key`, which must lie in `minimum`..`maximum`."""
    value = lookup(source, key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} must be a whole number, not {kind(value)}")
    if not minimum <= value <= maximum:
        raise ConfigError(f"{key} must be between {minimum} and {maximum}, not {str(value)[:40]}")
    return value


def string(source: Object, key: str, default: str) -> str:
    """The text at `key`."""
    value = lookup(source, key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ConfigError(f'{key} must be a text in quotes, such as "{key}": "...", not {kind(value)}')
    return value


def subobject(source: Object, key: str) -> Object:
    """The object at `key`, empty where absent."""
    value = lookup(source, key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object {{...}}, not {kind(value)}")
    return value


def kind(value: Any) -> str:
    """What sort of JSON value this is, in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {str(value)[:40]}"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
