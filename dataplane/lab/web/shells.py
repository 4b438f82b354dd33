"""Which command opens a shell at a place of the lab, for a terminal in the page."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from dataplane.lab.view import LabView, NodePlace

PROMPT = r"\[\e[1;36m\]{place}\[\e[0m\]:\w\$ "

SECRET = ("UDPLANE_LAB_WEB",)
"""Beginnings of environment variables that are not for shells."""


def shell(view: LabView, name: str) -> tuple[list[str], Mapping[str, str]]:
    """The command line and the environment. Raises LabError when there is no such place."""
    place = view.find(name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(SECRET)}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PS1": PROMPT.format(place=place.name)}
    if isinstance(place, NodePlace):
        environment["UDPLANE_RUN_DIR"] = str(place.run_dir)
    program = shutil.which("bash")
    # No files of the user's: they would set another prompt, and may want what a lab has not.
    argv = [program, "--noprofile", "--norc", "-i"] if program else [str(Path("/bin/sh")), "-i"]
    return place.namespace.command(argv), environment
