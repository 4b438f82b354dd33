"""Remarks for whoever reads the runtime's log: one line each on stderr, which the specification leaves free."""

from __future__ import annotations

from cni.lib.lean import os


def warn(text: str) -> None:
    """Write one line; a closed stderr is no reason to fail."""
    line = text.replace("\n", " ") + "\n"
    try:
        os.write(2, line.encode("utf-8", "replace"))
    except OSError:
        pass
