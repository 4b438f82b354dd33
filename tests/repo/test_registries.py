"""What is chosen by name: each name leads to a module that can be chosen, and each such module has a name."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from cni.lib.registry import MODULES
from dataplane.backends.registry import BACKENDS
from dataplane.engines.registry import ENGINES
from dataplane.stores.registry import STORES

ROOT = Path(__file__).parents[2]


def modules_with(name: str, package: Path) -> set[str]:
    """The modules of a package, among them packages, that have something of that name at their top."""
    files = {file.stem: file for file in package.glob("*.py")}
    files |= {file.parent.name: file for file in package.glob("*/__init__.py")}
    return {module for module, file in files.items() if name in names_at_the_top(ast.parse(file.read_text()))}


def names_at_the_top(tree: ast.Module) -> set[str]:
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assigned += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {
        ast.unparse(target) for target in assigned
    }


@pytest.mark.parametrize(
    ("package", "name", "registered"),
    [
        ("dataplane/backends", "create", [kind.module for kind in BACKENDS.values()]),
        ("dataplane/stores", "create", [kind.module for kind in STORES.values()]),
        ("dataplane/engines", "create", [kind.module for kind in ENGINES.values()]),
        ("cni", "PLUGIN", [module.partition(".")[0] for module in MODULES.values()]),
    ],
)
def test_names_and_modules_belong_together(package: str, name: str, registered: Iterable[str]) -> None:
    assert modules_with(name, ROOT / package) == set(registered)


def test_a_module_that_can_be_chosen_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def create() -> None: ...")
    (tmp_path / "b.py").write_text("def f() -> None:\n    def create() -> None: ...")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "__init__.py").write_text("create = 1")
    assert modules_with("create", tmp_path) == {"a", "c"}
