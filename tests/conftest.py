"""What all tests share: the rights that some of them need."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dataplane.lab import private

# How fast the machine is at this moment is not what is tested. And a change is judged by the same examples as the one
# before it; what others find is for a run that looks for it.
settings.register_profile(
    "udplane",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="UDPLANE_RANDOM_EXAMPLES" not in os.environ,
)
settings.load_profile("udplane")

CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN = 12, 13, 21
"""Bit numbers in the capability sets of /proc/PID/status (include/uapi/linux/capability.h)."""


def needs_whole_system(what: str) -> None:
    """Skip what a user namespace forbids, in words such as `a second user`."""
    if private.inside() and private.has_own_users():
        pytest.skip(f"needs {what}, which a user namespace does not have: run as root")


def _has_capabilities(*numbers: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return all(effective >> number & 1 for number in numbers)
    return False


@pytest.fixture(scope="session")
def run_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all processes of this run of the suite share, however many there are."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Ask for this in a test that builds network namespaces: it skips where the rights are missing."""
    if not _has_capabilities(CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN):
        pytest.skip("needs the right to make network namespaces: run ./dev test, which gets it for ordinary users too")


@pytest.fixture(scope="session")
def tun_device(namespaces: None) -> None:
    """Ask for this in a test that opens a TUN device."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"needs /dev/net/tun ({error.strerror}): run `sudo modprobe tun` or `sudo chmod 666 /dev/net/tun`")
