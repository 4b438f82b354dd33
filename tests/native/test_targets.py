"""The C code's own tests: unit tests, sanitizers, fuzzing, other processors. See native/Makefile."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
FUZZ_SECONDS = 5
"""For each target; `make -C native fuzz SECONDS=600` is for longer hunts, and `sweep STEP=1` takes all sizes."""

JOBS = len(os.sched_getaffinity(0))

TARGETS = {
    "warnings": {"gcc": "gcc"},
    "unit": {"gcc": "gcc"},
    "asan": {"gcc": "gcc"},
    "tsan": {"gcc": "gcc"},
    "sweep": {"gcc": "gcc"},
    "prove": {"cbmc": "cbmc"},
    "fuzz": {"clang": "clang"},
    "cross-aarch64": {
        "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        "qemu-aarch64": "qemu-user",
    },
    "cross-s390x": {"s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu libc6-dev-s390x-cross", "qemu-s390x": "qemu-user"},
}
"""For each target of the Makefile, what it needs: command -> Debian packages that have it."""


@pytest.mark.parametrize("target", TARGETS)
def test_make(target: str) -> None:
    needs = {"make": "make"} | TARGETS[target]
    missing = [packages for command, packages in needs.items() if shutil.which(command) is None]
    if missing:
        pytest.skip(f"needs other programs: apt-get install -y {' '.join(missing)}")
    command = ["make", "--no-print-directory", f"--jobs={JOBS}", "-C", str(NATIVE), target]
    settings = [f"PYTHON={sys.executable}", f"SECONDS={FUZZ_SECONDS}"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=600, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    if skipped := [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]:
        pytest.skip(skipped[0].removeprefix("skipped: "))
    if target == "warnings":
        assert done.stdout == done.stderr == ""
    else:
        assert "ok " in done.stdout
