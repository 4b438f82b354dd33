"""The image's Dockerfile, as far as it can be judged without building it."""

import os
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifest import DEPLOY

ROOT = DEPLOY.parent
DOCKERFILE = DEPLOY / "image" / "Dockerfile"
ENTRY = DEPLOY / "image" / "flanneld"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage: name and arguments."""
    found: list[list[tuple[str, str]]] = []
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found.append([])
        if name:
            found[-1].append((name, arguments))
    return found


def copied(stage: list[tuple[str, str]]) -> list[str]:
    """The paths of the sources that a stage copies."""
    return [
        path
        for name, arguments in stage
        if name == "COPY" and not arguments.startswith("--from")
        for path in shlex.split(arguments)[:-1]
    ]


def build_files() -> set[str]:
    """Every file and directory that pyproject.toml names."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extension = project["tool"]["setuptools"]["ext-modules"][0]
    packages = [pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    about = [project["project"]["readme"], *project["project"]["license-files"], "MANIFEST.in", "pyproject.toml"]
    return {*about, *packages, *project["build-system"]["backend-path"], *extension["sources"], *extension["depends"]}


def test_what_is_copied_is_there() -> None:
    for path in [path for stage in stages() for path in copied(stage)]:
        assert (ROOT / path).exists(), path


def test_what_the_build_needs_is_copied() -> None:
    tops = copied(stages()[0])
    missing = [path for path in sorted(build_files()) if not any(Path(path).is_relative_to(top) for top in tops)]
    assert missing == []


def test_the_compiler_stays_behind() -> None:
    build, final = (" ".join(arguments for _, arguments in stage) for stage in stages())
    assert "gcc" in build
    for word in ("gcc", "-dev", "pip", "venv"):
        assert word not in final.replace("--from=build", "")


def test_the_final_stage_has_the_programs_that_a_node_calls() -> None:
    installed = " ".join(arguments for name, arguments in stages()[1] if name == "RUN").split()
    assert {"iptables", "nftables", "python3", "ca-certificates"} <= set(installed)


@pytest.mark.parametrize("word", ["amd64", "x86", "arm64", "aarch64", "latest"])
def test_nothing_ties_it_to_one_processor_or_moment(word: str) -> None:
    instructions = [arguments for stage in stages() for _, arguments in stage]
    assert [arguments for arguments in instructions if word in arguments] == []


def test_flanneld_is_udplane_with_the_arguments_as_they_are(tmp_path: Path) -> None:
    assert os.access(ENTRY, os.X_OK)
    stand_in = tmp_path / "udplane"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    command = [str(ENTRY), "--iface-regex", "a b*", ""]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == "flanneld\n--iface-regex\na b*\n\n"
