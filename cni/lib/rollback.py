"""Undo what a failed ADD has done, and try everything in a DEL.

    with Rollback() as rollback:
        make_veth()
        rollback.push(delete_veth)
        ...
        rollback.pop_all()        # all went well: nothing is to be undone

On an exception the steps are undone in reverse order, and the exception goes on. contextlib.ExitStack does the same
and costs 4 ms to import.

    with Attempts() as attempts:
        attempts.run(delete_veth)
        attempts.run(delete_rules)

A DEL that stops at the first failure leaves more behind than it has to. So each step is tried, and the first failure
is raised at the end.
"""

from __future__ import annotations

from cni.lib.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Rollback:
    """A stack of steps to undo unless `pop_all` is called."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[[], object]) -> None:
        """Remember how to undo what was just done."""
        self._steps.append(step)

    def pop_all(self) -> None:
        """Forget every step."""
        self._steps.clear()

    def __enter__(self) -> Rollback:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        while self._steps:
            step = self._steps.pop()
            try:
                step()
            except Exception as failure:  # noqa: BLE001 - the first failure is the one to report; the other steps still have to run
                from cni.lib.log import warn

                warn(f"while undoing a failed ADD: {failure}")


class Attempts:
    """Steps that are all tried; leaving the context raises the first failure, if there was one."""

    def __init__(self) -> None:
        self._failures: list[Exception] = []

    def run(self, step: Callable[[], object]) -> None:
        """Try one step."""
        try:
            step()
        except (CniError, OSError) as error:
            self._failures.append(error)

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._failures and error is None:
            raise self._failures[0]
