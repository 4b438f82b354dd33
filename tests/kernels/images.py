"""The disks of the emulated machines: what is put on them, and when that is made anew.

    root.img            the root below build/kernels/root         when the root is new
    SUITE/modules.img   the modules of that suite's kernel        when there is another kernel
    SUITE/initramfs     busybox, and the modules that reach the   when there is another kernel, or initramfs.sh is new
                        disks
    checkout.tar        the checkout, and what is compiled by     for each run; compiled when the sources are new
                        the root's compiler

None of it takes rights: what has to be root's is made by the root of a user namespace.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[2]
BUILD = REPO / "build/kernels"
ROOT = BUILD / "root"
INITRAMFS_SCRIPT = Path(__file__).with_name("initramfs.sh")
DISK_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
"""What reaches the disks, by name; ext4 looks crc32c up by name, so it does not depend on it. Some may be built in."""

SPACE = 300
"""MiB free on the root, for what tests write outside of /tmp."""

PYTHON_CODE = ("/usr/lib/python3.11", "/usr/local/lib/python3.11/dist-packages")
"""Where Python's code is in the root. Compiled once here, it need not be in each machine."""

AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


@dataclass(frozen=True)
class Kernel:
    """The unpacked kernel of a Debian suite, below build/tools/SUITE."""

    suite: str

    @property
    def modules(self) -> Path:
        """The directory of its modules, which is called like its version; the newest, if there are several."""
        unpacked = REPO / "build/tools" / self.suite
        found = [path for place in ("lib", "usr/lib") for path in unpacked.glob(f"{place}/modules/*-*")]
        return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])

    @property
    def version(self) -> str:
        """What `uname -r` says of it."""
        return self.modules.name

    @property
    def program(self) -> Path:
        """The file to boot."""
        unpacked = REPO / "build/tools" / self.suite
        places = (unpacked / f"boot/vmlinuz-{self.version}", self.modules / "vmlinuz")
        return next(place for place in places if place.exists())

    @property
    def own(self) -> Path:
        """Where what belongs to this kernel is kept."""
        return BUILD / self.suite


def root_image() -> Path:
    """The disk with the root."""

    def make(image: Path) -> None:
        _run_in_root("python3", "-m", "compileall", "-q", "-j", "0", *PYTHON_CODE)
        _make_ext4(image, ROOT, SPACE)

    return _kept(BUILD / "root.img", _root_state(), make)


def modules_image(kernel: Kernel) -> Path:
    """The disk with the kernel's modules, after their dependencies have been worked out."""

    def make(image: Path) -> None:
        with tempfile.TemporaryDirectory(dir=BUILD) as name:
            (Path(name) / "lib").mkdir()
            (Path(name) / "lib/modules").symlink_to(kernel.modules.parent)
            _run("depmod", "-b", name, kernel.version)
        with tempfile.TemporaryDirectory(dir=BUILD) as name:
            shutil.copytree(kernel.modules, Path(name) / kernel.version, symlinks=True, copy_function=os.link)
            _make_ext4(image, Path(name), 8)

    return _kept(kernel.own / "modules.img", kernel.version, make)


def initramfs(kernel: Kernel) -> Path:
    """What the machine starts with; for a kernel that has been through `modules_image`."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=BUILD) as name:
            tree = Path(name)
            for directory in ("bin", "dev", "mnt", "modules", "proc", "sys"):
                (tree / directory).mkdir()
            shutil.copy(shutil.which("busybox") or "/bin/busybox", tree / "bin/busybox")
            shutil.copy(INITRAMFS_SCRIPT, tree / "init")
            (tree / "init").chmod(0o755)
            order = [_copy_module(path, tree / "modules") for path in _with_dependencies(kernel, DISK_MODULES)]
            (tree / "modules/order").write_text("\n".join(order) + "\n")
            _run("sh", "-ec", f"cd '{tree}'; find . | busybox cpio -o -H newc >'{target}'")

    return _kept(kernel.own / "initramfs", kernel.version + INITRAMFS_SCRIPT.read_text(), make)


def checkout(arguments: list[str]) -> Path:
    """A tar of the checkout as it is, with what is compiled, and the arguments for pytest."""
    listed = _run("git", "-C", str(REPO), "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    files = {name: REPO / name for name in listed if name and (REPO / name).is_file()}
    files |= compiled()
    files["build/pytest-arguments"] = BUILD / "pytest-arguments"
    files["build/pytest-arguments"].write_text("".join(f"{argument}\0" for argument in arguments))
    path = BUILD / "checkout.tar"
    with tarfile.open(path, "w") as tar:
        for name, file in files.items():
            tar.add(file, name, filter=_owned_by_root)
    return path


def compiled() -> dict[str, Path]:
    """The C extension and the plugins' launcher, by their places in the checkout, from the root's own compiler."""
    sources = sorted(path for path in (REPO / "native").rglob("*") if path.suffix in (".c", ".h", ".py"))
    sources = [path for path in sources if path.name != "_native.c"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, REPO / "pyproject.toml"]))
    directory = _kept(BUILD / "compiled", _root_state() + digest.hexdigest(), _compile)
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def _compile(target: Path) -> None:
    """Build a wheel inside the root, and keep what is compiled of it below `target`."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "tmp") as name:
        for part in ("pyproject.toml", "README.md", "LICENSE", "native", "dataplane", "cni"):
            _run("cp", "-r", str(REPO / part), name)
        shutil.rmtree(f"{name}/native/build", ignore_errors=True)
        build = 'import sys; sys.path.insert(0, "native"); import backend; backend.build_wheel(".")'
        _run_in_root("sh", "-ec", 'cd "$1"; exec python3 -c "$2"', "sh", f"/tmp/{Path(name).name}", build)
        (wheel,) = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member in ("dataplane/_native.abi3.so", "cni/_launcher"):
                    Path(archive.extract(member, target)).chmod(0o755)


def _root_state() -> str:
    return (BUILD / "root.state").read_text()


def _kept(target: Path, state: str, make: Callable[[Path], None]) -> Path:
    """`target`, made anew unless it was made from this state."""
    note = target.with_name(f"{target.name}.state")
    state = hashlib.sha256(state.encode()).hexdigest()
    if not (target.exists() and note.exists() and note.read_text() == state):
        note.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        make(target)
        note.write_text(state)
    return target


def _make_ext4(image: Path, tree: Path, spare: int) -> None:
    """A file system with the tree in it, all of it root's, and room for about `spare` MiB more."""
    used = int(_run("du", "-sm", "--apparent-size", str(tree)).split()[0])
    image.unlink(missing_ok=True)
    options = ["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0"]
    _run(*AS_ROOT, "mke2fs", *options, "-d", str(tree), str(image), f"{used + used // 8 + spare}M")


def _with_dependencies(kernel: Kernel, names: Iterable[str]) -> Iterator[Path]:
    """The files of these modules and of those that they need, in an order in which they can be loaded."""
    needs = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    by_name = {Path(file).name.partition(".")[0]: file for file in needs}
    done: set[str] = set()
    for file in [by_name[name] for name in names if name in by_name]:
        for needed in [*reversed(needs[file]), file]:  # modules.dep has the last one to load first
            if needed not in done:
                done.add(needed)
                yield kernel.modules / needed


def _copy_module(source: Path, directory: Path) -> str:
    """Copy a module, unpacked, since busybox cannot unpack it; its name over there."""
    content = source.read_bytes()
    name = source.name.removesuffix(".xz")
    (directory / name).write_bytes(lzma.decompress(content) if source.suffix == ".xz" else content)
    return name


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _run_in_root(*command: str) -> None:
    """Run a program of the root inside it, with this machine's /dev."""
    script = 'mount --rbind /dev "$1/dev"; exec chroot "$@"'
    _run(*AS_ROOT, "unshare", "--mount", "sh", "-ec", script, "sh", str(ROOT), *command)


def _run(*command: str) -> str:
    """The output of a program that must succeed; what it said ends this process, if not."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"./dev: this failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout
