"""A recording as a page on disk: one file that opens offline, or a folder for any web server."""

import os
from pathlib import Path
from typing import Any

import dataplane
from dataplane.lab import recording_file
from dataplane.lab.netns import LabError
from dataplane.lab.web import without_linux
from dataplane.lab.web.assets import static_file, words
from dataplane.lab.web.engine import Engine
from dataplane.lab.web.single import single_page

WORKER = "engine/engine-worker.js"
"""The script of the folder that runs Python beside the page."""


def read_recording(file: Path) -> dict[str, Any]:
    """The recording in a file, as the page gets it. Raises LabError that says what is wrong with it."""
    return recording_file.load(file).document()


def write_page(file: Path, recording: dict[str, Any] | None) -> None:
    """Write the page with that recording as one HTML file. Raises LabError."""
    text = single_page({"words": words(), "recording": recording})
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"cannot write {file}: {error.strerror}") from error


def write_folder(directory: Path, recording: dict[str, Any] | None, pyodide: Path | None) -> None:
    """Write the page as a folder that any web server can serve, with the engine, and Pyodide if it is there.

    `directory` is made; what else lies in it stays. Raises LabError.
    """
    engine = Engine(pyodide)
    data = {
        "words": words(),
        "recording": recording,
        "engine": {**engine.description(), "worker": WORKER},
        "exercises": without_linux.exercises(),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "index.html").write_text(single_page(data, served=True), encoding="utf-8")
        for name in engine.names():
            found = engine.file(name)
            target = directory / "engine" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(found[0] if found else b"")
        worker = static_file("js/engine-worker.js")
        (directory / WORKER).write_bytes(worker[0] if worker else b"")
    except OSError as error:
        raise LabError(f"cannot write {error.filename or directory}: {error.strerror}") from error


def pyodide_directory(given: Path | None) -> Path | None:
    """Where Pyodide lies: as given, else where `./dev lab --browser` has put it; None if nowhere."""
    if given is not None:
        return given
    data = Path(os.environ.get("XDG_DATA_HOME") or Path(os.environ.get("HOME") or "/nonexistent", ".local/share"))
    checkout = Path(dataplane.__file__).parents[1] / "build/tools/pyodide"
    return next((place for place in (data / "udplane/pyodide", checkout) if (place / "pyodide.mjs").is_file()), None)
