"""The error that a plugin answers with.

CNI errors are values on the wire: `{"code": 7, "msg": "missing network name", "details": ""}`. Runtimes and their
users grep the messages, so the texts are those of the official plugins wherever both can fail in the same way.

Codes 1 to 99 belong to the specification (https://www.cni.dev/docs/spec/, section "Error"); 999 is what the
official plugins use for every failure that has no code of its own.
"""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_NETWORK_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
PLUGIN_NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 999


class CniError(Exception):
    """A failure with the code, message and details that the runtime is to see."""

    def __init__(self, msg: str, code: int = INTERNAL, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def wrap(self, prefix: str) -> CniError:
        """The same error with `prefix: ` before its message, as Go's fmt.Errorf("prefix: %v", err) gives it."""
        return CniError(f"{prefix}: {self.msg}", self.code, self.details)


def describe(error: BaseException) -> str:
    """An exception in the words that Go's os package would use: `open /x: no such file or directory`."""
    if isinstance(error, CniError):
        return error.msg
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[:1].lower() + error.strerror[1:]
        return f"open {error.filename}: {reason}" if error.filename else reason
    return str(error) or type(error).__name__
