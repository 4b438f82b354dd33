"""Go's gob encoding, as far as net/rpc over the DHCP daemon's socket needs it.

A gob stream is a sequence of messages, each led by its length. A message holds a signed type number and then
either, when the number is negative, the definition of that type, or else a value of it. A definition is itself
a gob value, of the type `wireType`, so one decoder reads both once it knows how wireType is made.

Integers: an unsigned number below 128 is one byte; a larger one is a byte holding the negated count of bytes,
then the bytes, most significant first. A signed number is shifted left by one, complemented if negative, and
sent unsigned. A struct is a run of (field number delta, value), closed by delta 0, and a field that holds the
zero value of its type is not sent: a decoded struct is therefore a dict in which absent means zero.

Floats, complex numbers, interfaces and types with encoders of their own do not occur here and are refused.

Source: the documentation of Go's package encoding/gob.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_MESSAGE_LEN = 1 << 20  # a network configuration is a few kilobytes; more than this is no peer of ours
_MAX_DEPTH = 16

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str, Value]"
# What a value of any gob type looks like once decoded.


class GobError(ValueError):
    """The bytes are not a gob stream of the kinds of value supported here."""


@dataclass(frozen=True)
class Basic:
    """A type that every gob stream knows; `number` is its fixed type number."""

    number: int


@dataclass(frozen=True)
class Struct:
    """A struct type: its Go name and its fields in order."""

    name: str
    fields: tuple[tuple[str, Type], ...] = ()


@dataclass(frozen=True)
class Slice:
    """A slice type: its Go name and the type of its elements."""

    name: str
    element: Type


Type: TypeAlias = Basic | Struct | Slice

BOOL, INT, UINT, BYTES, STRING = Basic(1), Basic(2), Basic(3), Basic(5), Basic(6)

# The types by which types are defined. The numbers are fixed by the format.
_COMMON = Struct("CommonType", (("Name", STRING), ("Id", INT)))
_FIELD = Struct("fieldType", (("Name", STRING), ("Id", INT)))
_ARRAY = Struct("arrayType", (("CommonType", _COMMON), ("Elem", INT), ("Len", INT)))
_SLICE = Struct("sliceType", (("CommonType", _COMMON), ("Elem", INT)))
_STRUCT = Struct("structType", (("CommonType", _COMMON), ("Field", Slice("[]*fieldType", _FIELD))))
_MAP = Struct("mapType", (("CommonType", _COMMON), ("Key", INT), ("Elem", INT)))
_WIRE = Struct("wireType", (("ArrayT", _ARRAY), ("SliceT", _SLICE), ("StructT", _STRUCT), ("MapT", _MAP)))
_FIRST_FREE_NUMBER = 65


class Encoder:
    """Writes one direction of a gob stream; remembers which types the peer has been told of."""

    def __init__(self) -> None:
        self._numbers: dict[Type, int] = {}

    def encode(self, kind: Struct, value: Mapping[str, Value]) -> bytes:
        """Return the messages that carry `value`, led by the definitions that the peer has not seen yet."""
        definitions: list[bytes] = []
        number = self._define(kind, definitions)
        return b"".join(definitions) + _message(_signed(number) + _encoded(kind, value))

    def _define(self, kind: Type, definitions: list[bytes]) -> int:
        """Return the type's number; a new type is numbered, and its definition (and its parts') appended."""
        if isinstance(kind, Basic):
            return kind.number
        known = self._numbers.get(kind)
        if known is not None:
            return known
        number = self._numbers[kind] = _FIRST_FREE_NUMBER + len(self._numbers)
        common: Value = {"Name": kind.name, "Id": number}
        definition: dict[str, Value]
        if isinstance(kind, Slice):
            definition = {"SliceT": {"CommonType": common, "Elem": self._define(kind.element, definitions)}}
        else:
            fields: list[Value] = [{"Name": n, "Id": self._define(t, definitions)} for n, t in kind.fields]
            definition = {"StructT": {"CommonType": common, "Field": fields}}
        definitions.append(_message(_signed(-number) + _encoded(_WIRE, definition)))
        return number


class Decoder:
    """Reads one direction of a gob stream from bytes as they come."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._types: dict[int, Type] = {t.number: t for t in (BOOL, INT, UINT, BYTES, STRING)}
        self._definitions: dict[int, dict[str, Value]] = {}

    def feed(self, data: bytes) -> Iterator[Value]:
        """Take more bytes and yield every value that is complete now. Raises GobError, after which it is of no use."""
        self._pending += data
        while (message := self._next_message()) is not None:
            reader = _Reader(message)
            number = reader.signed()
            if number < 0:
                self._definitions[-number] = as_struct(reader.value(_WIRE))
                continue
            kind = self._resolve(number)
            if not isinstance(kind, Struct) and reader.unsigned() != 0:
                raise GobError("a value that is no struct must be led by a zero byte")
            yield reader.value(kind)

    def _next_message(self) -> bytes | None:
        reader = _Reader(bytes(self._pending[:9]))
        try:
            length = reader.unsigned()
        except GobError:
            if len(self._pending) >= 9:
                raise
            return None
        if length > MAX_MESSAGE_LEN:
            raise GobError(f"a message of {length} bytes is longer than the {MAX_MESSAGE_LEN} allowed")
        end = reader.position + length
        if len(self._pending) < end:
            return None
        message = bytes(self._pending[reader.position : end])
        del self._pending[:end]
        return message

    def _resolve(self, number: int, depth: int = 0) -> Type:
        """Turn a type number into the type, from the definitions seen so far."""
        known = self._types.get(number)
        if known is not None:
            return known
        definition = self._definitions.get(number)
        if definition is None or depth > _MAX_DEPTH:
            raise GobError(f"type {number} is not defined, not supported or too deep")
        kind: Type
        if "StructT" in definition:
            fields = as_struct(definition["StructT"]).get("Field", [])
            kind = Struct("", tuple(self._resolve_field(field, depth) for field in as_slice(fields)))
        elif "SliceT" in definition:
            kind = Slice("", self._resolve(_as_number(as_struct(definition["SliceT"]).get("Elem", 0)), depth + 1))
        else:
            raise GobError(f"type {number} is of a kind that is not supported")
        self._types[number] = kind
        return kind

    def _resolve_field(self, field: Value, depth: int) -> tuple[str, Type]:
        parts = as_struct(field)
        return str(parts.get("Name", "")), self._resolve(_as_number(parts.get("Id", 0)), depth + 1)


class _Reader:
    """A cursor over the bytes of one message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise GobError("the message ends early")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def unsigned(self) -> int:
        first = self.take(1)[0]
        if first < 128:
            return first
        length = 256 - first
        if length > 8:
            raise GobError(f"an integer of {length} bytes")
        return int.from_bytes(self.take(length), "big")

    def signed(self) -> int:
        number = self.unsigned()
        return ~(number >> 1) if number & 1 else number >> 1

    def value(self, kind: Type, depth: int = 0) -> Value:
        if depth > _MAX_DEPTH:
            raise GobError("a value nested too deep")
        if isinstance(kind, Struct):
            return self._struct(kind, depth)
        if isinstance(kind, Slice):
            return [self.value(kind.element, depth + 1) for _ in range(self._bounded_count())]
        return self._basic(kind)

    def _struct(self, kind: Struct, depth: int) -> Value:
        fields: dict[str, Value] = {}
        index = -1
        while delta := self.unsigned():
            index += delta
            if index >= len(kind.fields):
                raise GobError(f"field {index} of a struct with {len(kind.fields)} fields")
            name, field_kind = kind.fields[index]
            fields[name] = self.value(field_kind, depth + 1)
        return fields

    def _bounded_count(self) -> int:
        """Read an element count; every element takes a byte at least, so more than what is left is a lie."""
        count = self.unsigned()
        if count > len(self._data) - self.position:
            raise GobError(f"a slice of {count} elements does not fit its message")
        return count

    def _basic(self, kind: Basic) -> Value:
        if kind == INT:
            return self.signed()
        if kind == UINT:
            return self.unsigned()
        if kind == BOOL:
            return self.unsigned() != 0
        data = self.take(self.unsigned())
        return data if kind == BYTES else data.decode("utf-8", "replace")


def _encoded(kind: Type, value: Value | Mapping[str, Value]) -> bytes:
    """The bytes of a value, without message length and type number."""
    if isinstance(kind, Struct):
        assert isinstance(value, Mapping)
        return _encoded_struct(kind, value)
    if isinstance(kind, Slice):
        assert isinstance(value, list)
        return _unsigned(len(value)) + b"".join(_encoded(kind.element, element) for element in value)
    if kind in (INT, UINT, BOOL):
        assert isinstance(value, int)
        return _signed(value) if kind == INT else _unsigned(value)
    assert isinstance(value, str | bytes)
    data = value.encode() if isinstance(value, str) else value
    return _unsigned(len(data)) + data


def _encoded_struct(kind: Struct, value: Mapping[str, Value]) -> bytes:
    parts = []
    last = -1
    for index, (name, field_kind) in enumerate(kind.fields):
        field = value.get(name)
        if field or (field is not None and isinstance(field_kind, Struct)):  # only a struct is sent when it is empty
            parts.append(_unsigned(index - last) + _encoded(field_kind, field))
            last = index
    return b"".join(parts) + b"\0"


def _message(body: bytes) -> bytes:
    return _unsigned(len(body)) + body


def _unsigned(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    length = (number.bit_length() + 7) // 8
    return bytes([256 - length]) + number.to_bytes(length, "big")


def _signed(number: int) -> bytes:
    return _unsigned(~number << 1 | 1 if number < 0 else number << 1)


def as_struct(value: Value) -> dict[str, Value]:
    """A decoded value that has to be a struct. Raises GobError."""
    if not isinstance(value, dict):
        raise GobError("a struct was expected")
    return value


def as_slice(value: Value) -> Sequence[Value]:
    """A decoded value that has to be a slice. Raises GobError."""
    if not isinstance(value, list):
        raise GobError("a slice was expected")
    return value


def as_bytes(value: Value) -> bytes:
    """A decoded value that has to be bytes. Raises GobError."""
    if not isinstance(value, bytes):
        raise GobError("bytes were expected")
    return value


def _as_number(value: Value) -> int:
    if not isinstance(value, int):
        raise GobError("an integer was expected")
    return value
