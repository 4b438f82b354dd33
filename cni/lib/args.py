"""CNI_ARGS, `K=V;K2=V2`, as the official plugins read it."""

from __future__ import annotations

from cni.lib.errors import CniError
from cni.lib.skel import Call


def parse_args(call: Call, known: tuple[str, ...]) -> dict[str, str]:
    """The values of the `known` keys. Unknown keys are refused unless IgnoreUnknown=1 (or true) is among them."""
    values: dict[str, str] = {}
    unknown = []
    ignore_unknown = False
    for pair in call.args.split(";") if call.args else []:
        parts = pair.split("=")
        if len(parts) != 2:
            raise CniError(f'ARGS: invalid pair "{pair}"')
        key, value = parts
        if key in known:
            values[key] = value
        elif key == "IgnoreUnknown":
            ignore_unknown = _boolean(value)
        else:
            unknown.append(f'"{pair}"')
    if unknown and not ignore_unknown:
        raise CniError(f"ARGS: unknown args [{' '.join(unknown)}]")
    return values


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "true"):
        return True
    if lowered in ("0", "false"):
        return False
    reason = f"boolean unmarshal error: invalid input {text}"
    raise CniError(f'ARGS: error parsing value of pair "IgnoreUnknown={text}": {reason}')
