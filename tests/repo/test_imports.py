"""Who may import whom, read from the syntax trees.

The arrows of the architecture point one way, and these tests keep them so: a module that reaches sideways or upwards
is a sign that something stands in the wrong place. An import inside a function counts like any other.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dataplane", "cni", "native", "bench", "tests")

GROUND = "the modules at the top of dataplane"
LAYERS = (
    (GROUND,),
    ("flags",),
    ("packets",),
    ("leases",),
    ("kernel",),
    ("engines", "stores", "capture"),
    ("options",),
    ("forwarding",),
    ("backends",),
    ("node",),
    ("flanneld", "lab"),
    ("commands",),
    ("cli",),
)
"""The parts of dataplane, from the ground up: each may import itself and what comes before its own line."""

NEVER = {
    "dataplane": ("cni", "bench", "tests", "native"),
    "cni": ("dataplane", "bench", "tests", "native", "scapy", "numpy", "pyroute2", "cffi"),
    "bench": ("tests",),
}
"""What a package must not import."""

ONLY_IN = {
    "dataplane._native": ("dataplane/engines/native.py", "bench/micro/"),
    "numpy": ("dataplane/engines/numpy.py", "bench/", "tests/"),
    "scapy": ("dataplane/lab/scapy_packets.py", "tests/"),
    "dataplane.flanneld": ("dataplane/cli.py", "dataplane/flanneld/", "tests/"),
}
"""What may be imported only in these files or directories."""

Imports = Mapping[str, Iterable[str]]
"""Module -> the modules that it imports."""


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST) -> Iterator[str]:
    """The absolute names that a module imports: `a.b` of `from a import b`, `a` of `import_module(f"a.{name}")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {
            "import_module",
            "__import__",
        }:
            yield computed_name(node.args[0])


def computed_name(argument: ast.expr) -> str:
    """What the source tells of the module that a call imports: its name, or the package that it is in."""
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
    assert isinstance(first, ast.Constant), f"line {argument.lineno}: nobody knows what is imported here"
    text = str(first.value)
    return text if first is argument else text.rpartition(".")[0]


@cache
def imports() -> list[tuple[Path, str, str]]:
    """Every import of the project: file, importing module, imported name."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return [(file, module_name(file), name) for file in files for name in imported_names(ast.parse(file.read_text()))]


def imports_between_modules(package: str) -> dict[str, set[str]]:
    """Which modules of `package` each of them imports; `a.b` is the module of that name, or else what `a` has."""
    modules = {module_name(file) for file in (ROOT / package).rglob("*.py")}
    found: dict[str, set[str]] = {module: set() for module in modules}
    for _, importer, name in imports():
        target = name if name in modules else name.rpartition(".")[0]
        if importer in modules and target in modules:
            found[importer].add(target)
    return found


def height(module: str) -> int:
    """The number of the layer of `dataplane.NAME...`."""
    name = module.split(".")[1] if "." in module else ""
    return next((number for number, layer in enumerate(LAYERS) if name in layer), 0)


def part(module: str) -> str:
    """The part of dataplane that `dataplane.NAME...` belongs to."""
    name = module.split(".")[1] if "." in module else ""
    return name if any(name in layer for layer in LAYERS) else GROUND


def upward(graph: Imports) -> list[str]:
    """The imports of dataplane that point upwards, or sideways into another part."""
    return [
        f"{importer} imports {name}"
        for importer, names in sorted(graph.items())
        for name in sorted(names)
        if height(name) > height(importer) or (height(name) == height(importer) and part(name) != part(importer))
    ]


def circle(graph: Imports) -> list[str]:
    """A circle of modules that import each other; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def unlayered(directory: Path) -> set[str]:
    """The packages in `directory` that are on no layer, and the names on layers that are not there."""
    packages = {file.relative_to(directory).parts[0] for file in directory.glob("*/**/*.py")}
    there = packages | {file.stem for file in directory.glob("*.py")}
    named = {name for layer in LAYERS for name in layer} - {GROUND}
    return (packages - named) | (named - there)


def test_every_part_of_dataplane_has_its_layer() -> None:
    assert unlayered(ROOT / "dataplane") == set()


def test_nothing_in_dataplane_imports_upwards() -> None:
    assert upward(imports_between_modules("dataplane")) == []


@pytest.mark.parametrize("package", ["dataplane", "cni", "bench"])
def test_no_modules_import_each_other(package: str) -> None:
    assert circle(imports_between_modules(package)) == []


@pytest.mark.parametrize("package", NEVER)
def test_packages_keep_to_themselves(package: str) -> None:
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


@pytest.mark.parametrize(
    ("importer", "name"),
    [
        ("dataplane.errors", "dataplane.flags"),
        ("dataplane.leases.lease", "dataplane.kernel.netdev"),
        ("dataplane.stores.base", "dataplane.engines.contract"),
        ("dataplane.node.node", "dataplane.commands.leave"),
        ("dataplane.commands.up", "dataplane.cli"),
    ],
)
def test_an_import_upwards_or_sideways_is_seen(importer: str, name: str) -> None:
    assert upward({importer: {name}}) == [f"{importer} imports {name}"]
    assert upward({importer: {importer.rpartition(".")[0] + ".sibling", "dataplane.addresses"}}) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_a_package_without_a_layer_is_seen(tmp_path: Path) -> None:
    for name in ("flags", "options", "cli"):
        (tmp_path / f"{name}.py").touch()
    for name in {name for layer in LAYERS for name in layer} - {GROUND, "flags", "options", "cli", "lab"} | {"attic"}:
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "deeper" / "module.py").touch()
    assert unlayered(tmp_path) == {"attic", "lab"}


def test_an_import_by_a_computed_name_is_seen() -> None:
    calls = (
        "import_module('dataplane.node.node')",
        "__import__(f'dataplane.stores.{name}')",
        "lib.import_module(f'a.b_{c}')",
    )
    source = "\n".join(calls)
    assert list(imported_names(ast.parse(source))) == ["dataplane.node.node", "dataplane.stores", "a"]
    with pytest.raises(AssertionError, match="nobody knows"):
        list(imported_names(ast.parse("import_module(name)")))


def test_an_import_inside_a_function_is_seen() -> None:
    source = "import os\ndef f():\n    from dataplane.node import node\n    import dataplane.cli as c\n"
    assert list(imported_names(ast.parse(source))) == ["os", "dataplane.node.node", "dataplane.cli"]
