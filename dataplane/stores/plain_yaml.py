"""The part of YAML that kubectl, kubeadm and k3s write into a kubeconfig; Python has no YAML parser of its own.

Understood: mappings and lists by indentation, plain and quoted scalars on one line, `{}`, `[]`, comments. Anchors,
tags, block scalars, flow collections and several documents are refused. Numbers stay text.
"""

import contextlib
import json
import re
from typing import Any

from dataplane.errors import ConfigError

_Line = tuple[int, int, str]
"""Line number, indentation in spaces, text without both."""

_ENTRY = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^\s'"#\[{&*!|>%@`-][^#]*?)\s*:(?:\s+(.*))?""")


def parse_yaml(text: str) -> Any:
    """Read a document; ConfigError names the first line that is not understood."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content and not content.startswith("#") and content not in ("---", "..."):
            lines.append((number, len(line) - len(line.lstrip(" ")), content))
    lines.reverse()
    value = _parse_block(lines, -1)
    if lines:
        raise _unreadable(lines[-1][0])
    return value


def _parse_block(lines: list[_Line], outer: int) -> Any:
    """Take the block off `lines` (which is in reverse order) that is indented by more than `outer`."""
    if not lines or lines[-1][1] <= outer:
        return None
    indent = lines[-1][1]
    if lines[-1][2].startswith("- ") or lines[-1][2] == "-":
        return _parse_list(lines, indent)
    mapping: dict[str, Any] = {}
    while lines and lines[-1][1] == indent and not lines[-1][2].startswith("- "):
        number, _, content = lines.pop()
        entry = _ENTRY.fullmatch(content)
        if entry is None:
            raise _unreadable(number)
        key, rest = str(_parse_scalar(entry[1], number)), entry[2] or ""
        if rest and not rest.startswith("#"):
            mapping[key] = _parse_scalar(rest, number)
        elif lines and lines[-1][1] == indent and lines[-1][2].startswith("- "):
            mapping[key] = _parse_list(lines, indent)  # a list may stand as far left as its key
        else:
            mapping[key] = _parse_block(lines, indent)
    return mapping


def _parse_list(lines: list[_Line], indent: int) -> list[Any]:
    items = []
    while lines and lines[-1][1] == indent and (lines[-1][2].startswith("- ") or lines[-1][2] == "-"):
        number, _, content = lines.pop()
        rest = content[1:].lstrip()
        if rest and _ENTRY.fullmatch(rest) is None:
            items.append(_parse_scalar(rest, number))
            continue
        if rest:
            lines.append((number, indent + len(content) - len(rest), rest))
        items.append(_parse_block(lines, indent))
    return items


def _parse_scalar(text: str, number: int) -> Any:
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            return json.loads(text)
        raise _unreadable(number)
    if text.startswith("'"):
        if len(text) < 2 or not text.endswith("'"):
            raise _unreadable(number)
        return text[1:-1].replace("''", "'")
    text = re.sub(r"\s+#.*", "", text)
    if text in ("{}", "[]"):
        return {} if text == "{}" else []
    if text[0] in "[{&*!|>%@`":
        raise _unreadable(number)
    return {"true": True, "false": False, "null": None, "~": None}.get(text, text)


def _unreadable(number: int) -> ConfigError:
    return ConfigError(f"line {number} is YAML of a kind that is not understood here; write it as JSON")
