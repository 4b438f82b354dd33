"""Why a text is not JSON, in the words of Go's encoding/json (scanner.go's states and their contexts).

Only the path that ends in an error comes here, so this reads one character at a time and is written to be plain.
`explain` walks the text as Go's scanner does and stops at the first character that Go would refuse.
"""

from __future__ import annotations

WHITESPACE = " \t\n\r"
LITERALS = {"t": "true", "f": "false", "n": "null"}
MAX_DEPTH = 10000
UNEXPECTED_END = "unexpected end of JSON input"


class _RefusedError(Exception):
    """The scan ended at a character or an end of input that Go's scanner refuses."""


def explain(text: str) -> str:
    """Go's message for `text`, which is not one JSON value."""
    scan = _Scan(text)
    try:
        scan.document()
    except _RefusedError as refused:
        return str(refused)
    return "invalid JSON"


def _quoted(character: str) -> str:
    """A character as Go's quoteChar shows it."""
    if character == "'":
        return "'\\''"
    if character == '"':
        return "'\"'"
    names = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
    if character in names:
        return f"'{names[character]}'"
    byte = character.encode("utf-8", "replace")[0]
    if byte < 0x20 or byte == 0x7F:
        return f"'\\x{byte:02x}'"
    if byte < 0x80:
        return f"'{character}'"
    return f"'{chr(byte)}'" if byte >= 0xA0 and byte != 0xAD else f"'\\u{byte:04x}'"


class _Scan:
    """A cursor over the text, with the containers that are open around it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.open: list[str] = []

    def next(self, spaces: bool = True) -> str:
        """The next character, past white space if `spaces`. An end of input here is Go's unexpected end."""
        while spaces and self.at < len(self.text) and self.text[self.at] in WHITESPACE:
            self.at += 1
        if self.at >= len(self.text):
            raise _RefusedError(UNEXPECTED_END)
        self.at += 1
        return self.text[self.at - 1]

    def refuse(self, character: str, context: str) -> _RefusedError:
        return _RefusedError(f"invalid character {_quoted(character)} {context}")

    def document(self) -> None:
        """One value, then nothing but white space. Containers are kept on a list: depth is the input's to choose."""
        self.value(self.next())
        while self.open:
            self.after_element()
        rest = self.text[self.at :].lstrip(WHITESPACE)
        if rest:
            raise self.refuse(rest[0], "after top-level value")

    def value(self, character: str) -> None:
        """A scalar whole, or the opening of a container with its first element."""
        if character in "{[":
            self.container(character)
        elif character == '"':
            self.string()
        elif character in LITERALS:
            self.literal(LITERALS[character])
        elif character == "-" or character in "0123456789":
            self.number(character)
        else:
            raise self.refuse(character, "looking for beginning of value")

    def container(self, opening: str) -> None:
        while True:
            if len(self.open) >= MAX_DEPTH:
                raise _RefusedError("exceeded max depth")
            self.open.append(opening)
            character = self.next()
            if character == ("}" if opening == "{" else "]"):
                self.open.pop()
                return
            if opening == "{":
                character = self.key(character)
            if character not in "{[":
                self.value(character)
                return
            opening = character

    def key(self, character: str) -> str:
        """An object key and its colon; gives the first character of the value."""
        if character != '"':
            raise self.refuse(character, "looking for beginning of object key string")
        self.string()
        colon = self.next()
        if colon != ":":
            raise self.refuse(colon, "after object key")
        return self.next()

    def after_element(self) -> None:
        character = self.next()
        if self.open[-1] == "{":
            if character == ",":
                self.value(self.key(self.next()))
            elif character == "}":
                self.open.pop()
            else:
                raise self.refuse(character, "after object key:value pair")
        elif character == ",":
            self.value(self.next())
        elif character == "]":
            self.open.pop()
        else:
            raise self.refuse(character, "after array element")

    def string(self) -> None:
        while (character := self.next(spaces=False)) != '"':
            if character < " ":
                raise self.refuse(character, "in string literal")
            if character == "\\":
                self.escape(self.next(spaces=False))

    def escape(self, character: str) -> None:
        if character == "u":
            for _ in range(4):
                digit = self.next(spaces=False)
                if digit not in "0123456789abcdefABCDEF":
                    raise self.refuse(digit, "in \\u hexadecimal character escape")
        elif character not in 'bfnrt\\/"':
            raise self.refuse(character, "in string escape code")

    def literal(self, word: str) -> None:
        for i, expected in enumerate(word[1:], start=1):
            character = self.next(spaces=False)
            if character != expected:
                raise self.refuse(character, f"in literal {word} (expecting {_quoted(word[i])})")

    def number(self, character: str) -> None:
        if character == "-":
            character = self.next(spaces=False)
            if character not in "0123456789":
                raise self.refuse(character, "in numeric literal")
        if character != "0":
            self.digits()
        if self.peek() == ".":
            self.at += 1
            self.digits("after decimal point in numeric literal")
        if self.peek() in ("e", "E"):
            self.at += 1
            if self.peek() in ("+", "-"):
                self.at += 1
            self.digits("in exponent of numeric literal")

    def digits(self, required_in: str = "") -> None:
        if required_in:
            character = self.next(spaces=False)
            if character not in "0123456789":
                raise self.refuse(character, required_in)
        while self.peek() and self.peek() in "0123456789":
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]
