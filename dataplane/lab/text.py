"""Text for a terminal: colours where there is a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Select Graphic Rendition codes (ECMA-48 8.3.117)."""


def paint(code: str, text: str) -> str:
    """`text` in a colour or weight, if stdout is a terminal and the user did not say NO_COLOR."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return f"\033[{code}m{text}\033[0m"
    return text


def filled(items: Iterable[str], width: int) -> Iterator[str]:
    """The items, two spaces apart, in lines of at most `width` characters; no item is broken."""
    line = ""
    for item in items:
        if line and len(line) + 2 + len(item) > width:
            yield line
            line = item
        else:
            line = f"{line}  {item}" if line else item
    if line:
        yield line
