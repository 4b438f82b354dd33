"""The exceptions that reach a user.

Every failure that a person has to act on is a `UdplaneError`: its text is one line that names what was
attempted, on which object, and what to do about it. The command line prints that line on stderr and
exits with `exit_status`; nobody ever sees a traceback for something they can repair. Raise with `from`
when another exception is the cause, so that a log at debug level keeps the whole story.

Packets never raise: a packet that cannot be forwarded gets a verdict and a counter instead.
"""

import errno
from typing import ClassVar


class UdplaneError(Exception):
    """Something failed that a person can act on; the message says what to do, on one line."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(UdplaneError):
    """The command line is wrong: an unknown flag, a value that cannot be read."""

    exit_status: ClassVar[int] = 2


class ConfigError(UdplaneError):
    """A network config, a static peer file or a subnet file says something that cannot be."""


class LeaseError(UdplaneError):
    """No lease can be had as asked for: the network is used up, or a subnet belongs to somebody else."""


class LeaseLostError(LeaseError):
    """The lease that was to be renewed or released is gone, or somebody else holds its subnet now."""


class StoreError(UdplaneError):
    """A store could not do what was asked.

    `transient` is True where trying again later can help (out of reach, busy, no leader) and False where
    a person has to change something first (wrong password, a file that is not a store, no permission).
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class NoNetworkConfigError(StoreError):
    """The store works but nobody has put a network config into it yet."""


class NodeError(UdplaneError):
    """The node cannot run as asked on this host: a device, an address, a port or a permission is missing."""


class NoRoomError(NodeError):
    """A file could not be written since its file system is full. The node goes on without it and tries again."""


def file_error(message: str, error: OSError) -> NodeError:
    """The NodeError for a file that could not be written: `message` with the system's reason in place of `{}`."""
    kind = NoRoomError if error.errno in (errno.ENOSPC, errno.EDQUOT) else NodeError
    return kind(message.format(error.strerror or error))
