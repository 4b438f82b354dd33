"""Tests on other kernels: `./dev test --kernels [SUITE ...] [-- PYTEST ARGUMENT ...]`.

                       this machine, whatever its kernel
    +-----------------------------------------------------------------+
    |  qemu, without hardware virtualisation                          |
    |    kernel     of a Debian suite          build/tools/SUITE      |
    |    root       a small Debian 12          build/kernels/root.img |
    |    checkout   as it is at this moment    a tar                  |
    |    guest.sh   pytest, report.xml         build/kernels/SUITE    |
    +-----------------------------------------------------------------+

One machine after another, since each can use two processors. A line for each tells how it went; what was printed there
is in build/kernels/SUITE/console.log.
"""

from __future__ import annotations

import fcntl
import os
import sys

from tests.kernels import images, machine

MARK = "pytest.mark.kernels"
"""What runs unless something else is asked for."""

TIME_LIMIT = 3600
"""Seconds for one machine; an emulated processor is about ten times slower than a real one."""


def main(argv: list[str]) -> int:
    """Exit status: 0 when tests ran on each kernel and all passed, else 1."""
    end = argv.index("--") if "--" in argv else len(argv)
    kernels = [images.Kernel(suite) for suite in argv[:end]]
    with (images.BUILD / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _run_all(kernels, argv[end + 1 :] or marked_tests())
        except BlockingIOError:
            print("./dev: the machines of this checkout are running already; wait for them to end", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


def marked_tests() -> list[str]:
    """The arguments that run the tests with the mark, and have no other file read, since that is slow there."""
    tests = images.REPO / "tests"
    files = [
        path for path in sorted(tests.rglob("*.py")) if path.parent != tests / "kernels" and MARK in path.read_text()
    ]
    return ["-m", "kernels", *(str(path.relative_to(images.REPO)) for path in files)]


def _run_all(kernels: list[images.Kernel], arguments: list[str]) -> int:
    limit = float(os.environ.get("UDPLANE_KERNELS_SECONDS", TIME_LIMIT))
    checkout = images.checkout(arguments)
    status = 0
    for kernel in kernels:
        log = (kernel.own / "console.log").relative_to(images.REPO)
        outcome = machine.run(kernel, checkout, limit)
        print(outcome, flush=True)
        if not outcome.good:
            status = 1
            print(*(f"    {name}" for name in outcome.failed), f"    see {log}", sep="\n", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
