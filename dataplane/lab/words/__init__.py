"""Sentences by key, in several languages: what text, capture files and the page say about a recording's facts.

`en.json` has them all. Another language is one more file here, named by its code, which may lack keys: those are said
in English. A sentence has the names of a step's `args` in braces.
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
    """The sentence of that key. What it names and `args` lack stays as it is; an unknown key is said as a key."""
    template = sentences(language).get(key, "")
    if not template:
        return key
    return _Lenient().vformat(template, (), args)


class _Lenient(Formatter):
    """Puts in what there is, and leaves the name of what there is not. Looks up no attributes: args are anybody's."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        """The value of a name in braces."""
        del args
        value = kwargs.get(field_name, "{" + field_name + "}")
        return (", ".join(map(str, value)) if isinstance(value, list) else str(value)), field_name
