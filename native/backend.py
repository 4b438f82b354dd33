"""The build backend of pyproject.toml (PEP 517 and 660): setuptools, after the C source for cffi has been generated and
the launcher of the CNI plugins compiled.

The extension itself is described in pyproject.toml. One wheel serves Python 3.11 and all later ones, since cffi keeps
to the stable ABI; free-threaded Python has none before 3.15, so there the wheel is for that version alone.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
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

LAUNCHER = Path(__file__).parent / "cni" / "launcher.c"
LAUNCHER_PROGRAM = Path(__file__).parents[1] / "cni" / "_launcher"
"""Goes into the package as data; `udplane cni install --keep-warm` copies it."""

Settings = dict[str, Any] | None


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel and return its file name."""
    generate()
    compile_launcher()
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
    compile_launcher()
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    return name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Pack the sources. What is generated is left out and made anew from them."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    return name


def compile_launcher() -> None:
    """Compile the launcher: statically if that can be done, since it may be copied to a host with another libc."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", str(LAUNCHER), "-o", str(LAUNCHER_PROGRAM)]
    if subprocess.run([*command, "-static"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        subprocess.run(command, check=True)


def has_stable_abi() -> bool:
    """Whether this interpreter loads extensions that were built for the stable ABI."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 15)
