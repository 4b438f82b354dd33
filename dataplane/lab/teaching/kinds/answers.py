"""Checks of what a student has said: `udplane lab check --answer ttl=60`."""

from __future__ import annotations

import re
from typing import Any

from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds.base import Kind, Result, Room, Values

KIND = "answer"


def _answer(room: Room, values: Values) -> Result:
    name = values["name"]
    given = room.answers.get(name)
    if given is None:
        return Result(False, f"no answer yet: udplane lab check --answer {name}=...")
    said = plain(given)
    if said in {plain(text) for text in values["is"]}:
        return Result(True, given, given)
    hint = next((text for wrong, text in values["wrong"].items() if plain(wrong) == said), "")
    return Result(False, given, "", hint)


def plain(text: str) -> str:
    """The text without what people write in different ways: blanks, capitals, 0x, quotes."""
    text = re.sub(r"\s+", " ", text.strip().strip("\"'`.").lower())
    return str(int(text, 16)) if re.fullmatch(r"0x[0-9a-f]+", text) else text


def _read(section: Section) -> dict[str, Any]:
    name = section.needed("name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise section.wrong("name", "write a name of small letters, digits and _")
    answers = section.texts("is")
    if not answers:
        raise section.wrong("is", 'write the right answers, such as ["60"]')
    wrong = {key: str(value) for key, value in section.plain("wrong").items()}
    return {"name": name, "question": section.needed("question"), "is": list(answers), "wrong": wrong}


KINDS = {KIND: Kind("what the student answers", _read, _answer, lambda v: v["question"])}
