"""deploy/kubernetes/base/udplane.yaml, read, and a container of it emulated.

`as_container` wraps a command so that it runs as a container runtime would run it: in a root of its own that is
read-only, with a few devices and a read-only /proc/sys, with the volumes that the manifest mounts and no more than the
capabilities that it adds. Programs and libraries are those of this machine, since there is no image.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import needs_whole_system

REPO = Path(__file__).parents[2]
DEPLOY = REPO / "deploy"
MANIFEST = DEPLOY / "kubernetes" / "base" / "udplane.yaml"

_REAL_HOST_PATHS = ("/dev/net/tun", "/proc/sys/net")
_OWN_DIRECTORIES = "proc|sys|dev|run|mnt|var|host|boot|media|srv|lost+found"
_DEVICES = ("null", "zero", "full", "random", "urandom")


def documents(path: Path = MANIFEST) -> list[dict[str, Any]]:
    """All objects of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def one(kind: str) -> dict[str, Any]:
    """The manifest's only object of a kind."""
    (found,) = (document for document in documents() if document["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    """The pod that the DaemonSet starts on each node."""
    spec: dict[str, Any] = one("DaemonSet")["spec"]["template"]["spec"]
    return spec


def host_paths() -> dict[str, dict[str, str]]:
    """The volumes that are paths of the node: name -> `path` and `type`."""
    return {volume["name"]: volume["hostPath"] for volume in pod()["volumes"] if "hostPath" in volume}


def volume_directory(directory: Path, name: str) -> Path:
    """Where the volume `name` lies, for a pod that is emulated below `directory`."""
    return directory / "volumes" / name


def as_container(container: dict[str, Any], directory: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as `container` of the pod, with its volumes below `directory`."""
    needs_whole_system("mounts as a container runtime makes them")
    script = [
        "set -e",
        "mount --make-rprivate /",
        "mount -t tmpfs root /mnt",
        *_root(),
        *_bind(REPO, "/mnt" + str(REPO)),
        *_volumes(container, directory),
    ]
    if container["securityContext"]["readOnlyRootFilesystem"]:
        script.append("mount -o remount,ro /mnt")
    kept = "".join(f",+{name.lower()}" for name in container["securityContext"]["capabilities"].get("add", []))
    script.append(f'exec chroot /mnt setpriv --no-new-privs --bounding-set=-all{kept} --inh-caps=-all{kept} "$@"')
    return ["unshare", "--mount", "sh", "-c", "\n".join(script), "sh", *command]


def _root() -> list[str]:
    """Lines of shell that make the container's root at /mnt."""
    return [
        "for entry in /*; do",
        "  case ${entry#/} in",
        f"    {_OWN_DIRECTORIES}) mkdir -p /mnt$entry ;;",
        '    *) if [ -L "$entry" ]; then cp -P "$entry" /mnt; elif [ -d "$entry" ]; then',
        '         mkdir "/mnt$entry"; mount --rbind "$entry" "/mnt$entry"; fi ;;',
        "  esac",
        "done",
        "mkdir -p /mnt/proc /mnt/dev /mnt/run",
        "mount --rbind /proc /mnt/proc",
        "mount --bind /mnt/proc/sys /mnt/proc/sys",
        "mount -o remount,bind,ro,nosuid,nodev,noexec /mnt/proc/sys",
        f"for name in {' '.join(_DEVICES)}; do touch /mnt/dev/$name; mount --bind /dev/$name /mnt/dev/$name; done",
    ]


def _volumes(container: dict[str, Any], directory: Path) -> list[str]:
    """Lines of shell that mount the container's volumes. ConfigMaps and most host paths are directories of the test."""
    paths, lines = host_paths(), []
    for mount in container["volumeMounts"]:
        target, path = "/mnt" + mount["mountPath"].rstrip("/"), paths.get(mount["name"])
        source = volume_directory(directory, mount["name"])
        if path is not None and path["path"] in _REAL_HOST_PATHS:
            source = Path(path["path"])
        elif path is not None and path["type"] == "FileOrCreate":
            source.parent.mkdir(parents=True, exist_ok=True)
            source.touch()
        else:
            source.mkdir(parents=True, exist_ok=True)
        lines += _bind(source, target)
    return lines


def _bind(source: Path, target: str) -> list[str]:
    """Lines of shell that show `source` at `target`, which may be there already."""
    there, here = shlex.quote(str(source)), shlex.quote(target)
    make = (
        f"mkdir -p {here}" if source.is_dir() else f"mkdir -p {shlex.quote(str(Path(target).parent))} && touch {here}"
    )
    return [make, f"mount --rbind {there} {here}"]
