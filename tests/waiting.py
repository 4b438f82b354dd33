"""Wait for a condition: what tests do where others sleep."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Ask `condition` until it is true; fail, saying `what` did not come about, after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not so: {what}"
        time.sleep(0.005)
