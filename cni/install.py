"""`udplane cni install`: puts the plugins where a container runtime looks for them, and takes them away again.

In the bin directory:

    bridge, host-local, flannel ...     launchers, each a file of its own with the same small script; with --keep-warm,
                                        with the same program
    .udplane/lib-<hash>/cni/            the package, with its byte code, so that no checkout or venv is needed
    .udplane/replaced/                  other plugins of the same names that were there before
    .udplane/start, .udplane/warm       the script that starts cold, and where the warm interpreter is found

The bin directory may be another machine's, or a host's that is mounted into a container: launchers find the package
relative to themselves, and `--python` names the interpreter as it is called over there. Every file appears by a
rename, so a runtime that starts a plugin meanwhile gets the old one or the new one. The package's directory is named
by its content; the one before stays until the next installation, for plugins that are running.

Others write to the bin directory too: a package brings a newer official plugin, an init container copies its own over
a launcher. So no two names share a file, and whether a file is a launcher of ours its content says (`MARK`). What does
not say so is never overwritten without being kept, and never removed.

In the configuration directory: a conflist with flannel and portmap, unless there is a file of that name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cni.lib.gojson import dumps
from cni.lib.lean import sha512
from cni.lib.registry import MODULES
from cni.lib.store import read_file, remove, temporary_of, write_atomic
from cni.lib.warm_start import forget_dead

LAUNCHER = '''\
#!{python} -IS
"""The CNI plugins of udplane: the same script under every plugin's name. Put here by `udplane cni install`."""
import sys
sys.path.append(__file__.rpartition("/")[0] + "/.udplane/{library}")
try:
    from cni.lib.launch import main
except ImportError:  # called through a symbolic link
    import os
    sys.path.append(os.path.realpath(__file__).rpartition("/")[0] + "/.udplane/{library}")
    from cni.lib.launch import main
main(sys.argv[0])
'''
START = '''\
#!{python} -IS
"""The CNI plugins of udplane: what a launcher runs when there is no warm interpreter. Put here by the installer."""
import sys
here = __file__.rpartition("/")[0]
sys.path.append(here + "/{library}")
from cni.lib.warm_start import ensure_warm
ensure_warm(sys.executable, here + "/{library}", here + "/warm", {idle_seconds})
from cni.lib.launch import main
sys.argv = sys.argv[1:]
main(sys.argv[0])
'''
SIGNATURE = "\n# The CNI plugins of udplane, {library}\n"
"""The end of every launcher, script or program, by which launchers of one installation know each other."""
PROGRAM = "_launcher"  # compiled with the package, from native/cni/launcher.c
WARM_DIRECTORY = "/run/udplane-cni"
SYSTEM_PYTHON = "/usr/bin/python3"
MARK = b"The CNI plugins of udplane"
DEFAULT_WARM_SECONDS = 1800
LARGEST_LAUNCHER = 4 << 20
"""Bytes; a larger file is no launcher, and need not be read to know."""
CONFLIST_NAME = "10-udplane.conflist"
# 1.0.0 is what containerd 1.6 and podman 4.3 read as well; they refuse results of 1.1.0.
CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "udplane",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
OLDEST_PYTHON = (3, 11)
KEPT_LIBRARIES = 2


class InstallError(Exception):
    """What went wrong and what to do about it, in one line."""


def main(argv: list[str]) -> int:
    """Install or uninstall as `argv` says. Gives the exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        options = _parse(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        with _readable_by_all():
            if options.uninstall:
                uninstall(options.bin_dir, options.conf_dir)
            else:
                install(options.bin_dir, options.conf_dir, options.python or _default_python(), options.keep_warm)
    except InstallError as error:
        print(f"udplane cni install: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"udplane cni install: {error.filename or options.bin_dir}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _readable_by_all() -> Iterator[None]:
    """Files and directories that everybody may read and nobody else write, whatever the caller's umask."""
    former = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(former)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="udplane cni install", description="Install the CNI plugins under their official names, or undo that."
    )
    parser.add_argument("--bin-dir", required=True, metavar="DIR", help="where the runtime looks for plugins")
    parser.add_argument("--conf-dir", metavar="DIR", help="where it looks for conflists; without it none is written")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help=f"the interpreter as the plugins' machine calls it (default: {SYSTEM_PYTHON} if it is fit, else this one)",
    )
    parser.add_argument(
        "--keep-warm",
        metavar="SECONDS",
        type=int,
        help="keep an interpreter that has the plugins loaded, until nobody has called one for so long "
        f"(default: {DEFAULT_WARM_SECONDS}; 0: none, each call starts its own)",
    )
    parser.add_argument("--uninstall", action="store_true", help="take away what was installed")
    options = parser.parse_args(argv)
    if options.keep_warm is not None and options.keep_warm < 0:
        parser.error("--keep-warm must be a number of seconds, 0 for not at all")
    return options


def install(bin_dir: str, conf_dir: str | None, python: str, keep_warm: int | None = None) -> None:
    """Install every plugin of the package. `keep_warm` is in seconds, None for the default.

    Raises InstallError, OSError.
    """
    if not python.startswith("/"):
        raise InstallError(f"--python {python}: give the interpreter's absolute path")
    runs_here = _check_python(python)
    for name in _available():
        if os.path.isdir(f"{bin_dir}/{name}"):
            raise InstallError(f"{bin_dir}/{name} is a directory: remove it, or choose another --bin-dir")
    program = _program(keep_warm)
    os.makedirs(f"{bin_dir}/.udplane", exist_ok=True)
    os.chmod(f"{bin_dir}/.udplane", 0o755)
    library = _install_library(bin_dir, python if runs_here else None)
    if program:
        start = START.format(python=python, library=library, idle_seconds=keep_warm or DEFAULT_WARM_SECONDS).encode()
        _write_program(f"{bin_dir}/.udplane/start", start)
        _link_warm(bin_dir, start)
    launcher = program or LAUNCHER.format(python=python, library=library).encode()
    for name in _available():
        _set_aside(bin_dir, name)
        _write_program(f"{bin_dir}/{name}", launcher + SIGNATURE.format(library=library).encode())
    for name in ("launcher",) if program else ("launcher", "warm", "start"):  # an earlier installation's
        remove(f"{bin_dir}/.udplane/{name}")
    _remove_old_libraries(bin_dir)
    print(f"installed in {bin_dir}: {' '.join(_available())}")
    if conf_dir:
        _install_conflist(conf_dir)


def _write_program(path: str, content: bytes) -> None:
    remove(temporary_of(path))  # a killed installer's, perhaps with other permissions
    write_atomic(path, content, 0o755)


def _program(keep_warm: int | None) -> bytes | None:
    """The compiled launcher; None where nothing is to be kept warm, or can be."""
    if keep_warm == 0:
        return None
    program = read_file(f"{os.path.dirname(os.path.abspath(__file__))}/{PROGRAM}")
    if program is None:
        problem = "needs a launcher that this package was built without: install the package anew"
        if keep_warm:
            raise InstallError(f"--keep-warm {problem}")
        print(
            f"note: every plugin starts an interpreter of its own, which is slow; to keep one warm {problem}",
            file=sys.stderr,
        )
    return program


def _link_warm(bin_dir: str, start: bytes) -> None:
    """Say where this installation's warm interpreter is found.

    One that was started in another way, or for another directory, is not it, and ends when it sees that.
    """
    name = sha512(os.path.realpath(bin_dir).encode() + b"\0" + start).hexdigest()[:16]
    temporary = f"{bin_dir}/.udplane/warm.tmp"
    remove(temporary)
    os.symlink(f"{WARM_DIRECTORY}/{name}", temporary)
    os.rename(temporary, f"{bin_dir}/.udplane/warm")


def _available() -> list[str]:
    """The plugins that this package has."""
    here = os.path.dirname(os.path.abspath(__file__))
    return [
        name
        for name, module in MODULES.items()
        if os.path.exists(f"{here}/{module}.py") or os.path.exists(f"{here}/{module}/__init__.py")
    ]


def _default_python() -> str:
    """The system's interpreter, which starts fastest and stays when a virtual environment goes; else this one."""
    return SYSTEM_PYTHON if _is_new_enough(SYSTEM_PYTHON) else os.path.realpath(sys.executable)


def _check_python(python: str) -> bool:
    """Whether the interpreter runs here, as it does not when the bin directory is another machine's."""
    if not os.access(python, os.X_OK):
        print(f"note: there is no {python} here; the plugins' machine has to have it", file=sys.stderr)
        return False
    if not _is_new_enough(python):
        raise InstallError(f"{python} is not Python 3.11 or newer: choose another with --python")
    return True


def _is_new_enough(python: str) -> bool:
    if not os.access(python, os.X_OK):
        return False
    code = "import sys; print(sys.version_info[0], sys.version_info[1])"
    answer = subprocess.run([python, "-IS", "-c", code], capture_output=True, text=True, check=False)
    numbers = answer.stdout.split()
    return answer.returncode == 0 and len(numbers) == 2 and tuple(map(int, numbers)) >= OLDEST_PYTHON


def _sources() -> dict[str, bytes]:
    """The package's source files by their path below the package."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = {}
    for directory, _, names in os.walk(here):
        for name in names:
            if name.endswith(".py"):
                path = f"{directory}/{name}"
                with open(path, "rb") as file:
                    found[os.path.relpath(path, here)] = file.read()
    return dict(sorted(found.items()))


def _install_library(bin_dir: str, python: str | None) -> str:
    """Copy the package and compile it with the interpreter that will run it; gives its directory's name."""
    sources = _sources()
    content = b"".join(path.encode() + b"\0" + text for path, text in sources.items())
    name = f"lib-{sha512(content).hexdigest()[:16]}"
    target = f"{bin_dir}/.udplane/{name}"
    if not os.path.isdir(target):
        temporary = f"{target}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for path, text in sources.items():
            os.makedirs(os.path.dirname(f"{temporary}/cni/{path}"), exist_ok=True)
            with open(f"{temporary}/cni/{path}", "wb") as file:
                file.write(text)
        os.rename(temporary, target)
    os.utime(target)
    if python:  # without byte code the plugins still run, and leave it there themselves
        subprocess.run([python, "-I", "-m", "compileall", "-q", target], check=False, stdout=subprocess.DEVNULL)
    return name


def _is_launcher(path: str) -> bool:
    """Whether a file is a launcher of ours, of this installation or an earlier one. A link never is."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    is_small_file = stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_LAUNCHER
    return is_small_file and MARK in (read_file(path) or b"")


def _set_aside(bin_dir: str, name: str) -> None:
    """Keep another plugin of that name, for uninstall to put back: a file, or a link as it is, wherever it leads."""
    path = f"{bin_dir}/{name}"
    if not os.path.lexists(path) or _is_launcher(path):
        return
    os.makedirs(f"{bin_dir}/.udplane/replaced", exist_ok=True)
    kept = f"{bin_dir}/.udplane/replaced/{name}"
    temporary = temporary_of(kept)
    remove(temporary)
    try:
        os.link(path, temporary, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(path, temporary, follow_symlinks=False)
    os.rename(temporary, kept)
    remove(temporary)  # renaming a link onto another link of the same file does nothing


def _remove_old_libraries(bin_dir: str) -> None:
    root = f"{bin_dir}/.udplane"
    libraries = [f"{root}/{name}" for name in os.listdir(root) if name.startswith("lib-")]
    libraries.sort(key=lambda path: os.stat(path).st_mtime, reverse=True)
    for path in libraries[KEPT_LIBRARIES:]:
        shutil.rmtree(path, ignore_errors=True)


def _install_conflist(conf_dir: str) -> None:
    path = f"{conf_dir}/{CONFLIST_NAME}"
    text = (dumps(CONFLIST, indent=2) + "\n").encode()
    present = read_file(path)
    if present not in (None, text):
        print(f"kept {path}, which somebody has changed; remove it and install again to get the default")
        return
    os.makedirs(conf_dir, exist_ok=True)
    write_atomic(path, text, 0o644)
    print(f"installed {path}")


def uninstall(bin_dir: str, conf_dir: str | None) -> None:
    """Take away what `install` made and put back what it replaced. Raises OSError.

    Something else under a plugin's name came later, and nothing there was taken away by somebody: both stay so.
    """
    for name in MODULES:
        path, kept = f"{bin_dir}/{name}", f"{bin_dir}/.udplane/replaced/{name}"
        if not _is_launcher(path):
            if os.path.lexists(kept):
                now = "there is another one now" if os.path.lexists(path) else "somebody has removed the plugin since"
                print(f"did not put back the former {path}: {now}")
        elif os.path.lexists(kept):
            os.rename(kept, path)
        else:
            remove(path)
    if os.path.isdir(f"{bin_dir}/.udplane"):
        shutil.rmtree(f"{bin_dir}/.udplane")
    with suppress(PermissionError):  # somebody who is not root has installed for himself
        forget_dead(WARM_DIRECTORY)
    print(f"uninstalled from {bin_dir}")
    if conf_dir:
        path = f"{conf_dir}/{CONFLIST_NAME}"
        if read_file(path) == (dumps(CONFLIST, indent=2) + "\n").encode():
            remove(path)
            print(f"removed {path}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
