"""What every file of the repository has to keep to."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAX_FUNCTION = {"dataplane": 40, "cni": 40, "bench": 40, "docs": 40, "native": 60, "tests": 65}
"""Lines of a function without its docstring, by top directory. Most stay far below; what comes near in tests is a table
of cases.
"""

MAX_FILE, MAX_TEST_FILE = 400, 450

FORBIDDEN = {
    r"\b(TODO|FIXME|XXX)\b": "unfinished work belongs into an issue",
    r"\bbreakpoint\(\)|\bpdb\b": "left-over debugging",
    r"/(work|home|Users)/[a-z]+/": "a path of one machine",
}


def tracked_files() -> list[Path]:
    """The files under version control, or in an unpacked source archive, all that are there."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        made = re.compile(r"(^|/)(\.[^/]+|build|__pycache__)/")
        return [file for file in ROOT.rglob("*") if file.is_file() and not made.search(str(file.relative_to(ROOT)))]
    return [file for name in listing.stdout.split("\0") if name and (file := ROOT / name).is_file()]


def text_files() -> Iterator[tuple[Path, str]]:
    for file in tracked_files():
        try:
            yield file, file.read_text()
        except UnicodeDecodeError:
            continue


def python_functions() -> Iterator[tuple[str, int]]:
    """Every function with its length in lines, docstring and decorators aside."""
    for file, text in text_files():
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    docstring = node.body[0] if ast.get_docstring(node) is not None else None
                    skipped = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
                    length = (node.end_lineno or 0) - node.lineno + 1 - skipped
                    yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", length


def c_functions() -> Iterator[tuple[str, int]]:
    """Every C function with its length: in this style its braces are the ones in the first column."""
    for file, text in text_files():
        if file.suffix in (".c", ".h"):
            start = 0
            for number, line in enumerate(text.splitlines(), 1):
                if line == "{":
                    start = number
                elif line == "}" and start:
                    yield f"{file.relative_to(ROOT)}:{start}", number - start + 1
                    start = 0


def misleading(file: Path, top: Path) -> list[str]:
    """The `(see ...)` of a module's docstrings below `top` that name neither a module nor anything in the module.

    A module is named as its neighbours know it, or by its path from `top`.
    """
    tree = ast.parse(file.read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = [ast.get_docstring(node) or "" for node in nodes]
    names = {getattr(node, "name", "") for node in nodes}
    seen = re.findall(r"\(see ([^()]*)\)", " ".join(docstrings))
    return [
        name
        for name in re.findall(r"`([a-z_][a-z_.]*)`", " ".join(seen))
        if name not in names
        and not any((place / name.replace(".", "/")).with_suffix(".py").exists() for place in (file.parent, top))
    ]


@pytest.mark.parametrize("top", ["dataplane", "cni", "bench"])
def test_docstrings_refer_to_what_is_there(top: str) -> None:
    found = {str(file): misleading(file, ROOT / top) for file in (ROOT / top).rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == {}


def test_functions_fit_on_a_screen() -> None:
    functions = [*python_functions(), *c_functions()]
    assert [f"{name}: {n} lines" for name, n in functions if n > MAX_FUNCTION[name.partition("/")[0]]] == []


def test_files_do_one_thing() -> None:
    code = [(file, text) for file, text in text_files() if file.suffix in (".py", ".c", ".h")]
    limits = {file: MAX_TEST_FILE if "tests" in file.relative_to(ROOT).parts else MAX_FILE for file, _ in code}
    assert [str(file) for file, text in code if len(text.splitlines()) > limits[file]] == []


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_nothing_is_left_behind(pattern: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file, text in text_files()
        if file != Path(__file__) and (match := re.search(pattern, text))
    ]
    assert found == [], FORBIDDEN[pattern]
