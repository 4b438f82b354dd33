"""Cheap doors to standard-library modules whose public door is dear.

A plugin lives for a few milliseconds, so what it imports is what it costs. Measured with `python3 -IS -c ...` on
CPython 3.11 (median of 12 starts; the bare interpreter takes 7.2 ms):

    socket    +6.9 ms (enum, selectors)    _socket   +0.3 ms
    json      +7.4 ms (re, enum)           _json     +0.3 ms
    hashlib   +3.2 ms (OpenSSL)            _sha512   +0.2 ms
    os        +1.1 ms (abstract classes)   posix     free: the interpreter has it loaded
    signal    +3 ms (enum)                 _signal   free
    ctypes    +3.1 ms                      os.setns, from Python 3.12 on, is free

posix, _socket and _signal are what os, socket and signal are made from, and are always there; what posix lacks is in
`environment` here and in cni.lib.store (directories and their parents). The others are not promised to stay, so each
has its public module as a fallback: without them everything works, only slower.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import signal
    import socket
    from collections.abc import Callable
    from hashlib import sha512
    from typing import Any, NoReturn

    JsonDecoder = Callable[[str, int], tuple[Any, int]]
else:
    import _signal as signal
    import _socket as socket
    import posix as os

    try:
        from _sha512 import sha512
    except ImportError:
        try:
            from _sha2 import sha512
        except ImportError:
            from hashlib import sha512

__all__ = ["end_process", "environment", "json_decoder", "os", "prepare_setns", "setns", "sha512", "signal", "socket"]

CLONE_NEWNET = 0x40000000


def environment() -> dict[str, str]:
    """The environment variables; bytes that are no UTF-8 as lone surrogates, like os.environ."""
    raw: dict[bytes, bytes] = vars(os)["environ"]
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, value in raw.items()
    }


def end_process(status: int) -> NoReturn:
    """End at once. The interpreter's tidying up takes 1.5 ms, and a plugin has closed all that counts."""
    os._exit(status)  # noqa: SLF001 - so it is called


def json_decoder(make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> JsonDecoder:
    """The function (text, start) -> (value, end) that reads one JSON value; raises StopIteration or ValueError.

    `make_object` gets the members of each object, in their order.
    """
    try:
        core: Any = __import__("_json")
        decode: JsonDecoder = core.make_scanner(_ScannerSettings(make_object))
    except (ImportError, AttributeError):
        from json import JSONDecoder

        decode = JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=make_object).raw_decode
    return decode


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are Python's additions to JSON."""
    raise ValueError(f"invalid constant {name}")


class _ScannerSettings:
    """What json.JSONDecoder would hand to the C scanner."""

    def __init__(self, make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> None:
        self.memo: dict[str, str] = {}
        self.object_pairs_hook = make_object

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


def setns(fd: int) -> None:
    """Move this thread into the network namespace that `fd` refers to. Raises OSError."""
    if hasattr(os, "setns"):
        os.setns(fd, CLONE_NEWNET)
        return
    call, get_errno = _libc or _load_setns()
    if call(fd, CLONE_NEWNET) != 0:
        number = get_errno()
        raise OSError(number, os.strerror(number))


def prepare_setns() -> None:
    """Load what the first `setns` needs, 0.5 ms on Python 3.11, at a moment when the plugin would only wait."""
    if not hasattr(os, "setns"):
        _load_setns()


_libc: tuple[Callable[[int, int], int], Callable[[], int]] | None = None


def _load_setns() -> tuple[Callable[[int, int], int], Callable[[], int]]:
    """libc's setns and the reader of its errno, for Python 3.11, which has no os.setns."""
    global _libc
    try:
        core: Any = __import__("_ctypes")
        flags = core.FUNCFLAG_CDECL | core.FUNCFLAG_USE_ERRNO
        result_type = type("c_int", (core._SimpleCData,), {"_type_": "i"})  # noqa: SLF001 - that is its name
        function_type = type("Setns", (core.CFuncPtr,), {"_flags_": flags, "_restype_": result_type})
        _libc = function_type(core.dlsym(core.dlopen(None, 0), "setns")), core.get_errno
    except (ImportError, AttributeError):
        import ctypes

        _libc = ctypes.CDLL(None, use_errno=True).setns, ctypes.get_errno
    return _libc
