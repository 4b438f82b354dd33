"""What the README says that a machine can check: the commands in it exist."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from dataplane.lab import demo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@cache
def help_of(*command: str) -> str:
    return subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"\./dev (\w+)", README))))
def test_the_verb_exists(verb: str) -> None:
    assert re.search(rf"^  {verb} ", help_of("./dev"), re.MULTILINE)


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"`(?:udplane )?(up|status|peers|stats|capture|doctor|cni)\b", README)))
)
def test_the_command_exists(command: str) -> None:
    assert re.search(rf"^ +{command} ", help_of(sys.executable, "-I", "-m", "dataplane.cli"), re.MULTILINE)


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"--[a-z]+", README))))
def test_the_flag_of_the_demo_exists(flag: str) -> None:
    assert flag in help_of(sys.executable, "-I", "-m", demo.MODULE)


def test_the_demos_output_has_the_headlines_shown() -> None:
    source = Path(str(demo.__file__)).read_text()
    headlines = re.findall(r'headline\(\s*"([^"]+)"', source)
    assert headlines
    assert [line for line in headlines if line not in README] == []
