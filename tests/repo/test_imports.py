"""Who may import whom, read from the syntax trees.

The arrows of the architecture point one way, and this test keeps them so: a module that reaches sideways or upwards
is a sign that something stands in the wrong place.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dataplane", "cni", "native", "bench", "tests")

ONLY = {
    "dataplane.packets.verdicts": set(),
    "dataplane.packets.packet": {"dataplane.packets.verdicts"},
    "dataplane.packets.batch": {"dataplane.packets.verdicts"},
    "dataplane.packets.fragment": {"dataplane.packets.batch", "dataplane.packets.packet"},
    "dataplane.forwarding.tun": {"dataplane.packets.batch", "dataplane.errors", "dataplane.packets.verdicts"},
    "dataplane.forwarding.udp": {
        "dataplane.addresses",
        "dataplane.packets.batch",
        "dataplane.errors",
        "dataplane.packets.fragment",
        "dataplane.packets.verdicts",
        "dataplane.packets.packet",
    },
}
"""Modules at the bottom: all that each may import of this project, itself aside. Other modules are free to use them."""

NEVER = {
    "dataplane.engines.contract": (
        "dataplane.engines",
        "dataplane.forwarding.tun",
        "dataplane.forwarding.udp",
        "dataplane.forwarding.forwarder",
        "dataplane.node",
    ),
    "dataplane.engines": (
        "dataplane.forwarding.tun",
        "dataplane.forwarding.udp",
        "dataplane.forwarding.forwarder",
        "dataplane.node",
        "dataplane.cli",
    ),
    "dataplane.forwarding.forwarder": ("dataplane.engines.base", "dataplane.node", "dataplane.cli", "dataplane.stores"),
    "dataplane.leases.lease": ("dataplane.stores", "dataplane.backends", "dataplane.node"),
    "dataplane.stores": ("dataplane.backends", "dataplane.forwarding.forwarder", "dataplane.node", "dataplane.cli"),
    "dataplane.backends": ("dataplane.node", "dataplane.cli", "dataplane.stores"),
    "dataplane.node": ("dataplane.cli", "dataplane.lab"),
    "dataplane": ("cni", "bench", "tests", "native", "scapy"),
    "cni": ("dataplane", "bench", "tests", "native", "scapy", "numpy", "pyroute2", "cffi"),
    "bench": ("tests",),
}
"""What a module, and everything below it, must not import."""

ONLY_IN = {
    "dataplane._native": ("dataplane/engines/native.py", "bench/micro/"),
    "numpy": ("dataplane/engines/numpy.py", "bench/", "tests/"),
    "scapy": ("tests/",),
    "dataplane.flanneld": ("dataplane/cli.py", "dataplane/flanneld/", "tests/"),
}
"""What may be imported only in these files or directories."""


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(file: Path) -> Iterator[str]:
    """The absolute names that a file imports, at its top or inside functions; `from a import b` yields `a.b`."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports() -> list[tuple[Path, str, str]]:
    """Every import of the project: file, importing module, imported name."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return [(file, module_name(file), name) for file in files for name in imported_modules(file)]


@pytest.mark.parametrize("module", ONLY)
def test_a_module_at_the_bottom_imports_little(module: str) -> None:
    allowed = ONLY[module]
    names = {name for _, importer, name in imports() if importer == module and is_within(name, "dataplane")}
    assert {name for name in names if not any(is_within(name, target) for target in allowed)} == set()


@pytest.mark.parametrize("package", NEVER)
def test_nothing_imports_upwards(package: str) -> None:
    wrong = [
        f"{importer} imports {name}"
        for _, importer, name in imports()
        if is_within(importer, package) and any(is_within(name, forbidden) for forbidden in NEVER[package])
    ]
    assert wrong == []


@pytest.mark.parametrize("target", ONLY_IN)
def test_some_imports_have_one_place(target: str) -> None:
    files = {str(file.relative_to(ROOT)) for file, _, name in imports() if is_within(name, target)}
    assert [file for file in sorted(files) if not file.startswith(ONLY_IN[target])] == []


def test_the_plugins_need_the_standard_library_alone() -> None:
    tops = {name.partition(".")[0] for _, importer, name in imports() if is_within(importer, "cni")}
    # Modules with an underscore are the standard library's own C modules, which come and go with its versions.
    assert {top for top in tops if not top.startswith("_")} - sys.stdlib_module_names == {"cni"}
