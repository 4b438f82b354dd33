"""Do one step in a thread of its own while the plugin goes on.

Making and removing a veth pair are system calls that sleep: a removal waits 10 to 20 ms for the kernel's grace
periods, in which the address can be given back and the firewall told. `_thread` is the floor that the threading
module stands on, which itself costs 2 ms to import.
"""

from __future__ import annotations

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """A running step. Somebody has to `wait` for it before the plugin ends."""

    def __init__(self, step: Callable[[], object]) -> None:
        self._step = step
        self._error: BaseException | None = None
        self._done = _thread.allocate_lock()
        self._done.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._step()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error
        finally:
            self._done.release()

    def wait(self) -> None:
        """Until the step is done; raises what it raised, each time."""
        with self._done:
            if self._error is not None:
                raise self._error
