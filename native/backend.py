"""The build backend of pyproject.toml (PEP 517 and 660): setuptools, after the C source for cffi has been generated.

The extension itself is described in pyproject.toml. One wheel serves Python 3.11 and all later ones, since cffi keeps
to the stable ABI; free-threaded Python has none before 3.15, so there the wheel is for that version alone.
"""

import sys
import sysconfig
from typing import Any

from build_ffi import generate
from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

STABLE_ABI = "cp311"
"""Oldest Python whose stable ABI the extension needs."""

Settings = dict[str, Any] | None


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel and return its file name."""
    generate()
    settings = dict(config_settings or {})
    if has_stable_abi():
        settings["--build-option"] = [*settings.get("--build-option", []), f"--py-limited-api={STABLE_ABI}"]
    name: str = build_meta.build_wheel(wheel_directory, settings, metadata_directory)
    return name


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build the extension into the checkout, and a wheel that points there."""
    generate()
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    return name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Pack the sources. What is generated is left out and made anew from them."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    return name


def has_stable_abi() -> bool:
    """Whether this interpreter loads extensions that were built for the stable ABI."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 15)
