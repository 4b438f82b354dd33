"""Generate what the C extension is built from: the header of outcomes, and the module source of cffi.

    dataplane/packets/verdicts.py  -->  native/build/verdicts.h  --+
    native/api.cdef.h              --------------------------------+-->  native/build/_native.c

The two headers hold declarations without directives, so that cffi can read them and C can include them: there is one
truth about every struct and prototype. Nothing that is generated is committed.

    python native/build_ffi.py             generate both
    python native/build_ffi.py --header    only the header, which needs no cffi (for the Makefile)
"""

import importlib.util
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType

NATIVE = Path(__file__).parent
VERDICTS = NATIVE.parent / "dataplane" / "packets" / "verdicts.py"
API = NATIVE / "api.cdef.h"
HEADER = NATIVE / "build" / "verdicts.h"
MODULE = NATIVE / "build" / "_native.c"
MODULE_NAME = "dataplane._native"

ENUMS = {"Direction": "DP_DIRECTION", "Verdict": "DP_VERDICT", "Event": "DP_EVENT", "Egress": "DP_EGRESS"}
"""Enum of verdicts.py -> prefix of its members in C."""


def generate() -> None:
    """Write the header and the module source."""
    from cffi import FFI  # a build requirement, not there when only the header is made

    write_header()
    ffi = FFI()
    ffi.cdef(HEADER.read_text() + API.read_text())
    ffi.set_source(MODULE_NAME, '#include "api.h"')
    ffi.emit_c_code(str(MODULE))


def write_header() -> None:
    """Write the enums of verdicts.py as C."""
    verdicts = _load(VERDICTS)
    text = "/* Generated from dataplane/packets/verdicts.py. */\n" + "".join(
        _enum(getattr(verdicts, name), prefix) for name, prefix in ENUMS.items()
    )
    HEADER.parent.mkdir(exist_ok=True)
    if not HEADER.exists() or HEADER.read_text() != text:  # an unchanged file makes nothing out of date
        HEADER.write_text(text)


def _enum(members: type[IntEnum], prefix: str) -> str:
    """A C enum with the members' numbers, and their count as <prefix>_COUNT."""
    lines = [f"\t{prefix}_{member.name} = {member.value},\n" for member in members]
    return f"enum {prefix.lower()} {{\n{''.join(lines)}\t{prefix}_COUNT = {len(members)}\n}};\n"


def _load(path: Path) -> ModuleType:
    """Import one file by itself, without the package around it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    write_header() if "--header" in sys.argv[1:] else generate()
