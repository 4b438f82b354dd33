"""What is generated and listed for the build agrees with what is there."""

import re
import tomllib
from enum import IntEnum
from pathlib import Path

import pytest

from dataplane.engines.contract import OFFLOADS
from dataplane.packets import verdicts

lib = pytest.importorskip("dataplane._native", reason="the C extension is not built: pip install -e .").lib

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"


@pytest.mark.parametrize("enum", [verdicts.Direction, verdicts.Verdict, verdicts.Event, verdicts.Egress])
def test_enums_of_c_are_those_of_python(enum: type[IntEnum]) -> None:
    prefix = f"DP_{enum.__name__.upper()}"
    assert {member.name: getattr(lib, f"{prefix}_{member.name}") for member in enum} == dict(enum.__members__)
    assert getattr(lib, f"{prefix}_COUNT") == len(enum)


def test_offloads_are_the_features_of_c() -> None:
    assert [getattr(lib, f"DP_FEATURE_{name.upper()}") for name in OFFLOADS] == list(range(lib.DP_FEATURE_COUNT))


def test_the_extension_is_built_from_all_files() -> None:
    extension = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"][0]
    sources = [f"native/{file.name}" for file in sorted(NATIVE.glob("*.c"))]
    assert extension["sources"] == ["native/build/_native.c", *sources]
    assert extension["depends"] == [f"native/{file.name}" for file in sorted(NATIVE.glob("*.h"))]


def test_comments_describe_the_parameters_that_are_there() -> None:
    """Each kernel-doc comment of a function names its parameters, in order."""
    checked = 0
    for header in NATIVE.glob("*.h"):
        text = header.read_text()
        for comment, name, declaration in re.findall(r"/\*\*\n \* ((\w+)\(\) - .*?)\*/\n(.*?)[;{]", text, re.DOTALL):
            documented = re.findall(r"^ \* @(\w+):", comment, re.MULTILINE)
            parameters = re.search(rf"\b{name}\((.*)\)", declaration, re.DOTALL)
            assert parameters, f"{header.name}: the comment of {name} stands before something else"
            names = [re.findall(r"\w+", part)[-1] for part in parameters[1].split(",") if part.strip() != "void"]
            assert documented == names, f"{header.name}: {name}"
            checked += 1
    assert checked > 40
