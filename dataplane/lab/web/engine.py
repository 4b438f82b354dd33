"""The judge of an engine of one's own for a page: its modules as they are in a zip, and Pyodide to run them.

Pyodide is CPython for browsers. It is a download of its own, far larger than the rest of udplane, so a page works
without it, and says how to get it.
"""

import ast
import io
import zipfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dataplane
from dataplane.lab.netns import LabError

PACKAGE = Path(dataplane.__file__).parent

ENTRIES = ("dataplane.lab.golden",)
"""What is imported in the page; with all that it imports of dataplane."""

DATA = ("dataplane/lab/packets.toml",)
"""What those modules read."""

PYODIDE_FILES = {
    "pyodide.mjs": "text/javascript",
    "pyodide.asm.mjs": "text/javascript",
    "pyodide.asm.wasm": "application/wasm",
    "pyodide-lock.json": "application/json",
    "python_stdlib.zip": "application/zip",
}
"""The files of the npm package `pyodide` that a page loads."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of files in the zip: the same sources make the same bytes."""


class Engine:
    """The files below /engine/ of a page."""

    def __init__(self, pyodide: Path | None = None) -> None:
        """Offer Pyodide from that directory. Raises LabError when something is missing there."""
        self._pyodide = pyodide
        missing = [name for name in PYODIDE_FILES if pyodide and not (pyodide / name).is_file()]
        if missing:
            raise LabError(f"{pyodide} is no Pyodide: {missing[0]} is missing; `./dev lab --browser` fetches it")

    def description(self) -> dict[str, Any]:
        """What the page has to know."""
        return {"pyodide": self._pyodide is not None, "source": starter()}

    def file(self, path: str) -> tuple[bytes, str] | None:
        """The bytes and media type of `udplane.zip` or `pyodide/NAME`; None for anything else."""
        if path == "udplane.zip":
            return self.zip, "application/zip"
        name = path.removeprefix("pyodide/")
        if self._pyodide is None or name == path or name not in PYODIDE_FILES:
            return None
        return (self._pyodide / name).read_bytes(), PYODIDE_FILES[name]

    @cached_property
    def zip(self) -> bytes:
        """The modules, and the golden packets."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted([*module_files(), *DATA]):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), (PACKAGE.parent / name).read_bytes())
        return buffer.getvalue()

    def names(self) -> Iterator[str]:
        """All paths that `file` knows."""
        yield "udplane.zip"
        if self._pyodide is not None:
            yield from (f"pyodide/{name}" for name in PYODIDE_FILES)


def starter() -> str:
    """What a student begins with."""
    return (PACKAGE / "lab/engine_template.txt").read_text(encoding="utf-8")


@cache
def module_files() -> frozenset[str]:
    """The files of dataplane that ENTRIES need, as paths below the package's parent."""
    found: set[str] = set()
    waiting = list(ENTRIES)
    while waiting:
        file = _file_of(waiting.pop())
        if file is None or file.relative_to(PACKAGE.parent).as_posix() in found:
            continue
        found.add(file.relative_to(PACKAGE.parent).as_posix())
        waiting += _imports(file)
        waiting += [
            ".".join(parent.relative_to(PACKAGE.parent).parts)
            for parent in file.parents
            if parent.is_relative_to(PACKAGE)
        ]
    return frozenset(found)


def _file_of(module: str) -> Path | None:
    """The file of a module or a package of dataplane; None for what is neither."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.is_file() else None


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dataplane"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dataplane"))
