"""containerd on a private node: started, given a pause image, and driven by ctr or over its CRI socket."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cni.clients.cri import RuntimeService
from tests.cni.world.world import World

SOCKET = "/run/c/containerd.sock"
PAUSE_IMAGE = "localhost/pause:1"
# No apparmor, no oom score below the caller's and the plain snapshotter: what a container without privileges of its
# own may do.
SETTINGS = f"""
version = 2
root = "/run/c/root"
state = "/run/c/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


@contextmanager
def containerd(world: World, directory: str = "/usr/bin") -> Iterator[None]:
    """Run containerd on the node while the context lasts: that of the directory, if there is one."""
    world.write("/run/c/config.toml", SETTINGS)
    start = f"PATH={shlex.quote(directory)}:$PATH exec containerd --config /run/c/config.toml"
    pid = world.start("sh", "-c", start, log="/run/c/log")
    try:
        wait = (
            f"timeout 20 sh -c 'until ctr -a {SOCKET} version; do sleep 0.1; done' >/dev/null 2>&1 || tail /run/c/log"
        )
        assert world.sh(wait) == ""
        yield
    finally:
        world.stop(pid)


@contextmanager
def cri(world: World, directory: str = "/usr/bin") -> Iterator[RuntimeService]:
    """containerd with a pause image, and a connection to its CRI."""
    with containerd(world, directory):
        Path(f"/proc/{world.pid}/root/run/c/pause.tar").write_bytes(pause_archive())
        world.sh(f"ctr -a {SOCKET} -n k8s.io images import --snapshotter native /run/c/pause.tar")
        with RuntimeService(f"/proc/{world.pid}/root{SOCKET}") as service:
            yield service


def pause_archive() -> bytes:
    """An image in docker's archive format: busybox, sleeping until it is told to go."""
    layer = tar({"bin/busybox": Path("/bin/busybox").read_bytes()})
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    })  # fmt: skip
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}])
    return tar({"config.json": config.encode(), "layer.tar": layer, "manifest.json": manifest.encode()})


def tar(files: dict[str, bytes]) -> bytes:
    """A tar archive of executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
