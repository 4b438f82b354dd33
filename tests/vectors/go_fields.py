"""The cases of gojson.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

KEY = "address"
CASES = [
    pytest.param("{" + case["members"] + "}", case.get("value"), id=case["members"])
    for case in tomllib.loads(Path(__file__).with_name("gojson.toml").read_text(encoding="utf-8"))["cases"]
]
"""The object, and the value of the field KEY or None."""
