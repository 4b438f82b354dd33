"""Call another plugin: find it in CNI_PATH, run it, read its answer.

A delegate that is one of ours, installed beside the plugin that calls it, runs in this process: that saves the start
of an interpreter, the better part of its time. It counts as ours when the file found in CNI_PATH lies beside the
launcher that started this process and ends as it does (the installer writes a signature there); then the answer takes
the same road as a printed one would, through the shape of the configuration's version, so that nobody can tell the
difference. Every other file is executed: what somebody copies over one launcher is theirs, and harms none of the rest.
"""

from __future__ import annotations

import stat

from cni.lib import registry
from cni.lib.errors import INTERNAL, CniError
from cni.lib.gojson import JsonSyntaxError, dumps, loads
from cni.lib.lean import os
from cni.lib.skel import Call, invoke
from cni.lib.store import same_file
from cni.lib.types import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SIGNATURE_BYTES = 64  # from the end of a launcher, see cni/install.py


def delegate(call: Call, name: str, command: str, conf: dict[str, Any] | None = None) -> Result | None:
    """Run `command` of the plugin `name`, with the call's own configuration or with `conf`.

    Gives the result of an ADD. Raises CniError: the delegate's own error, unchanged.
    """
    path, status = find_plugin(name, call.path)
    derived = call.for_delegate(command, conf)
    if name in registry.MODULES and _is_own_launcher(path, status):
        result = invoke(registry.load_plugin(name), derived)
        return result and Result.from_json(result.to_json(derived.version), derived.version)
    return _execute(path, derived)


def preload(call: Call, name: str) -> None:
    """Import a delegate that will run in this process. Whatever is wrong with it is for `delegate` to say."""
    try:
        path, status = find_plugin(name, call.path)
    except CniError:
        return
    if name in registry.MODULES and _is_own_launcher(path, status):
        registry.load_plugin(name)


def _is_own_launcher(path: str, status: os.stat_result) -> bool:
    """Whether the file at `path`, which has this status, is a launcher of the installation that runs here."""
    launcher = registry.launcher
    try:
        own = os.stat(launcher) if launcher else None
        if own is None or own.st_size != status.st_size:
            return False
        beside = same_file(os.stat(path.rpartition("/")[0] or "/"), os.stat(launcher.rpartition("/")[0] or "."))
        return beside and (same_file(own, status) or _signature(path) == _signature(launcher))
    except OSError:
        return False


def _signature(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, SIGNATURE_BYTES, max(os.fstat(fd).st_size - SIGNATURE_BYTES, 0))
    finally:
        os.close(fd)


def find_plugin(name: str, directories: list[str]) -> tuple[str, os.stat_result]:
    """The first regular file of that name in the directories."""
    if "/" in name:
        raise CniError(f"invalid plugin name: {name}")
    if not name or not directories:
        raise CniError("no plugin name provided" if not name else "no paths provided")
    for directory in directories:
        path = f"{directory}/{name}"
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            return path, status
    raise CniError(f'failed to find plugin "{name}" in path [{" ".join(directories)}]')


def _execute(path: str, call: Call) -> Result | None:
    from cni.lib.process import run

    finished = run([path], call.stdin, call.env, own_stderr=False)
    if finished.status != 0:
        raise _error_of(finished.output, finished.status)
    if call.command != "ADD":
        return None
    data = _decode(finished.output)
    return Result.from_json(data, call.version)


def _decode(output: bytes) -> dict[str, Any]:
    try:
        data = loads(output)
    except JsonSyntaxError as failure:
        raise CniError(str(failure)) from None
    if data is not None and not isinstance(data, dict):
        raise CniError("the plugin's answer is not a JSON object")
    return data or {}


def _error_of(output: bytes, status: int) -> CniError:
    ending = f"exit status {status}" if status >= 0 else f"signal: {-status}"
    if not output.strip():
        return CniError(f"netplugin failed with no error message: {ending}")
    try:
        data = loads(output)
        code, msg, details = data.get("code", INTERNAL), data.get("msg", ""), data.get("details", "")
        if isinstance(code, int) and isinstance(msg, str) and isinstance(details, str):
            return CniError(msg, code, details)
        reason = "it is not an error object"
    except (JsonSyntaxError, AttributeError) as failure:
        reason = str(failure)
    quoted = dumps(output.decode("utf-8", "replace"))
    return CniError(f"netplugin failed but error parsing its diagnostic message {quoted}: {reason}")
