"""Sentences by key, in several languages: what text, capture files and the page say about a recording's facts.

`en.json` has them all. Another language is one more file here, named by its code, which may lack keys: those are said
in English. A sentence has the names of a step's `args` in braces. `docs/labs/walk.md` says which keys there are.
"""

import json
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

ENGLISH = "en"


@cache
def sentences(language: str = ENGLISH) -> dict[str, str]:
    """All sentences of a language that has a file here, with English ones for those that it lacks."""
    english: dict[str, str] = json.loads(resources.files(__name__).joinpath(f"{ENGLISH}.json").read_text("utf-8"))
    if language == ENGLISH:
        return english
    own: dict[str, str] = json.loads(resources.files(__name__).joinpath(f"{language}.json").read_text("utf-8"))
    return english | own


def say(key: str, args: dict[str, Any], language: str = ENGLISH) -> str:
    """The sentence of that key. What it names and `args` lack stays as it is; an unknown key is said as a key.

    A value that is an object, or a list of them, is said by a sentence of its own: `KEY.NAME`.
    """
    template = sentences(language).get(key, "")
    return _Sentence(key, language).vformat(template, (), args) if template else key


class _Sentence(Formatter):
    """Puts in what there is, and leaves the name of what there is not. Looks up no attributes: args are anybody's."""

    def __init__(self, key: str, language: str) -> None:
        super().__init__()
        self._key, self._language = key, language

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        """The value of a name in braces."""
        del args
        return self._text(field_name, kwargs.get(field_name, "{" + field_name + "}")), field_name

    def _text(self, name: str, value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(self._text(name, item) for item in value)
        if isinstance(value, dict):
            return say(f"{self._key}.{name}", value, self._language)
        return str(value)
