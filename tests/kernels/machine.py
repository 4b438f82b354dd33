"""One emulated machine: boots a kernel, runs pytest inside (guest.sh), brings back the report.

It ends with the tests, at its time limit, or with the process that started it, whatever becomes of that: the kernel
kills it then. Its disks stay as they are: what it writes on them goes to a file without a name.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.kernels import images

MEMORY = 2048
"""MiB."""

BOOT_ATTEMPTS = 5
"""A kernel changes its own code while it boots, which two emulated processors now and then take badly: it panics."""

STARTED = "; pytest "
"""What guest.sh says when a kernel has booted."""

PR_SET_PDEATHSIG = 1
RESULTS_SIZE = 64 << 20
"""Bytes, of a file without content."""


@dataclass(frozen=True)
class Outcome:
    """What came of one machine's run. `complaint` is empty, or says why there are no counts."""

    version: str
    seconds: float
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: int = 0
    complaint: str = ""

    @property
    def good(self) -> bool:
        """Whether tests ran, and none failed."""
        return not self.complaint and not self.failed and self.passed > 0

    def __str__(self) -> str:
        told = self.complaint or f"{self.passed} passed, {len(self.failed)} failed, {self.skipped} skipped"
        return f"{self.version:28} {told}, {self.seconds:.0f} s"


def run(kernel: images.Kernel, checkout: Path, time_limit: float) -> Outcome:
    """Boot the kernel with that checkout. What the console shows goes to build/kernels/SUITE/console.log."""
    modules = images.modules_image(kernel)  # before the initramfs, which needs modules.dep
    results = kernel.own / "results.tar"
    (kernel.own / "report.xml").unlink(missing_ok=True)
    results.write_bytes(b"")
    with results.open("r+b") as file:
        file.truncate(RESULTS_SIZE)
    command = _command(kernel, images.initramfs(kernel), [images.root_image(), modules, checkout], results)
    began = time.monotonic()
    for _ in range(BOOT_ATTEMPTS):
        ended = _run_to_the_end(command, kernel.own / "qemu.log", began + time_limit - time.monotonic())
        if not ended or STARTED in (kernel.own / "console.log").read_text(errors="replace"):
            break
    seconds = time.monotonic() - began
    if not ended:
        return Outcome(kernel.version, seconds, complaint="stopped at the time limit")
    try:
        with tarfile.open(results) as tar:
            tar.extractall(kernel.own, filter="data")
        return _read_report(kernel, seconds)
    except (tarfile.TarError, FileNotFoundError):
        return Outcome(kernel.version, seconds, complaint="ended without a report")


def _command(kernel: images.Kernel, initramfs: Path, disks: list[Path], results: Path) -> list[str]:
    """How to start it: disks in the order in which initramfs.sh expects them."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY)]
    command += ["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]
    command += ["-serial", f"file:{kernel.own / 'console.log'}", "-kernel", str(kernel.program)]
    command += ["-initrd", str(initramfs), "-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
    for disk in disks:
        command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on"]
    return [*command, "-drive", f"file={results},format=raw,if=virtio"]


def _run_to_the_end(command: list[str], log: Path, time_limit: float) -> bool:
    """Run the machine; whether it ended by itself."""
    libc = ctypes.CDLL(None)
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))  # fmt: skip
        try:
            process.wait(time_limit)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait()


def _read_report(kernel: images.Kernel, seconds: float) -> Outcome:
    """What pytest's report says."""
    passed, failed, skipped = 0, [], 0
    for case in ET.parse(kernel.own / "report.xml").iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Outcome(kernel.version, seconds, passed, tuple(failed), skipped)
