"""The control group of the warm interpreter: with a real systemd, and with cgroup v2 alone.

A systemd is the init of namespaces of its own here, with nothing to start but what a test asks for, and ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.test_warm import eventually, require_warm, warm_processes, warm_up
from tests.cni.world.world import World, install_plugins

SYSTEMD = Path("/lib/systemd/systemd")
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts"]
SECONDS = 60
# Nothing of this machine's can be changed from within: what its own units would do at boot (they empty /tmp) is masked,
# and would find file systems that are read-only or empty.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/lock /run/test /run/said
cp -a {directory}/. /run/test
mount --bind {directory}/said /run/said
for directory in /etc/systemd/system /var /tmp; do mount -t tmpfs tmpfs $directory; done
cp -P /run/test/units/* /etc/systemd/system
mount -t proc proc /proc
mount -o bind,ro /proc/sys /proc/sys
mount -o remount,bind,ro /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/{group}
echo 0 >/sys/fs/cgroup/{group}/cgroup.procs
umount /sys/fs/cgroup
exec unshare --cgroup sh /run/test/init.sh
"""
INIT = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=udplane
exec {systemd} --unit=runtime.target --log-target=null
"""
UNITS = {
    "runtime.target": """
[Unit]
DefaultDependencies=no
Requires=dbus.socket
Wants=runtime.service
""",
    "dbus.socket": """
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
""",
    "dbus.service": """
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
""",
    # A container runtime: it calls a plugin, and a second one that the interpreter of the first one serves.
    "runtime.service": """
[Unit]
DefaultDependencies=no
After=dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/sh /run/test/call.sh
StandardOutput=file:/run/said/said
StandardError=inherit
ExecStopPost=/bin/systemctl --force exit
""",
}
MASKED = ("sysinit.target", "basic.target", "systemd-tmpfiles-setup.service", "systemd-tmpfiles-clean.timer")
CALL = """
export CNI_COMMAND=VERSION
/run/test/bin/static
until test -S "$(readlink /run/test/bin/.udplane/warm)"; do sleep 0.05; done
/run/test/bin/static
echo
pid=$(pgrep -f cni.lib.[w]arm)
grep -H ^0: /proc/self/cgroup /proc/$pid/cgroup
kill $pid
while systemctl --quiet is-active udplane-cni-$pid.scope; do sleep 0.05; done
echo "units: $(systemctl list-units --all --no-legend 'udplane-cni*')"
"""


def remove_group(name: str) -> None:
    """Remove the group with all that is below it. Its last process may still be on its way out."""
    tree = (
        f"mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd /sys/fs/cgroup && find {name} -depth -type d -exec rmdir {{}} +"
    )

    def remove() -> bool:
        return (
            subprocess.run(["unshare", "--mount", "sh", "-c", tree], capture_output=True, check=False).returncode == 0
        )

    eventually(remove)


@pytest.fixture(autouse=True)
def _needs() -> None:
    require_warm()


@pytest.fixture
def group() -> Iterator[str]:
    """The name of a group of cgroup v2, for a test to make in its root."""
    mount = ["unshare", "--mount", "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"needs cgroup v2: {mounted.stderr.strip()}")
    name = f"udplane-test-{os.getpid()}"
    yield name
    remove_group(name)


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return install_plugins(tmp_path / "bin", "--keep-warm", "60")


def test_with_systemd_it_has_a_scope_of_its_own(bin_dir: Path, group: str, tmp_path: Path) -> None:
    if not SYSTEMD.exists() or not shutil.which("dbus-daemon"):
        pytest.skip("needs systemd and a D-Bus daemon: apt-get install systemd dbus")
    (tmp_path / "units").mkdir()
    for name, text in UNITS.items():
        (tmp_path / "units" / name).write_text(text)
    for name in MASKED:
        (tmp_path / "units" / name).symlink_to("/dev/null")
    (tmp_path / "call.sh").write_text(CALL)
    (tmp_path / "boot.sh").write_text(BOOT.format(directory=tmp_path, group=group))
    (tmp_path / "init.sh").write_text(INIT.format(systemd=SYSTEMD))
    (tmp_path / "said").mkdir()
    command = [*UNSHARE, "sh", str(tmp_path / "boot.sh")]
    booted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (tmp_path / "said" / "said").exists(), booted
    said = (tmp_path / "said" / "said").read_text()
    own, warm = (line.partition("0::")[2] for line in said.splitlines() if "/cgroup:" in line)
    assert own == "/system.slice/runtime.service"
    assert warm.startswith("/system.slice/udplane-cni-")
    assert said.endswith("\nunits: \n")  # it is gone with its process


def test_without_systemd_it_makes_a_group(bin_dir: Path, group: str) -> None:
    with World(bin_dir) as node:
        node.sh("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        node.sh(f"mkdir /sys/fs/cgroup/{group} && mount --bind /sys/fs/cgroup/{group} /sys/fs/cgroup")
        warm_up(node)
        (pid,) = warm_processes(node)
        assert node.sh(f"grep ^0: /proc/{pid}/cgroup").strip() == f"0::/{group}/udplane-cni"
        node.sh("rm -r /run/udplane-cni")
        eventually(lambda: not warm_processes(node))
        assert node.run("test", "-e", "/sys/fs/cgroup/udplane-cni").exit != 0
