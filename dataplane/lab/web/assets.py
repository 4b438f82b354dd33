"""What the page is made of: files of the package, texts in every language, and the data it starts with."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dataplane.lab.netns import LabError

STATIC = Path(__file__).parent / "static"
WORDS = Path(__file__).parents[1] / "words"

BOOT = '<script type="application/json" id="boot">{}</script>'
"""Where `index.html` takes the data that the page starts with."""


def boot_json(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element, whatever its strings hold: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def page(data: Mapping[str, Any]) -> str:
    """`index.html` with the data that it starts with."""
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    if BOOT not in text:
        raise LabError("the page's index.html has no place for its data; install udplane again")
    return text.replace(BOOT, BOOT.replace("{}", boot_json(data)))


def words(directory: Path = WORDS) -> dict[str, dict[str, Any]]:
    """Every language's texts: {"en": {"page": ..., "walk": ...}, ...}.

    A language is page.CODE.json for the page and CODE.json for the sentences of a walk; a teacher may add either.
    Raises LabError that names the file which is no JSON object.
    """
    languages: dict[str, dict[str, Any]] = {}
    for file in sorted(directory.glob("*.json")):
        found = re.fullmatch(r"(page\.)?([a-z]{2,3}(?:-[A-Za-z]+)?)\.json", file.name)
        if found:
            kind = "page" if found[1] else "walk"
            languages.setdefault(found[2], {})[kind] = _object(file)
    return languages


def _object(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except ValueError as error:
        raise LabError(f"{file} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise LabError(f"{file} holds no JSON object: a language file begins with {{")
    return document


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """The bytes and the media type of a file below static/; None when there is none of that name."""
    kinds = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    known = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.is_file()}
    file = known.get(name)
    if file is None or file.suffix not in kinds:
        return None
    return file.read_bytes(), f"{kinds[file.suffix]}; charset=utf-8"
