"""Where programs are looked for: on the PATH, and where distributions keep those of an administrator."""

import os

SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin")
"""ip(8), nft(8) and their like are here. Neither `su` nor an ordinary user's shell has them on its PATH everywhere."""


def with_system_directories(path: str) -> str:
    """A PATH, with the directories of an administrator's programs behind those that it has."""
    directories = path.split(os.pathsep)
    return os.pathsep.join([*directories, *(place for place in SYSTEM_DIRECTORIES if place not in directories)])


def add_system_directories() -> None:
    """Have this process and those that it starts find them."""
    os.environ["PATH"] = with_system_directories(os.environ.get("PATH", os.defpath))
