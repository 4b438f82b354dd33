"""What every document of the repository has to keep to: its links lead somewhere, and each release is told of."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from cni.lib.registry import MODULES
from dataplane import __version__
from dataplane.backends.registry import BACKENDS
from dataplane.cli import COMMANDS
from dataplane.lab.teaching.exercise import directories
from dataplane.lab.teaching.kinds import KINDS
from dataplane.stores.registry import STORES
from tests.repo.test_text import ROOT, tracked_files

DOCUMENTS = sorted(file for file in tracked_files() if file.suffix == ".md")
VERBS = [file for file in (ROOT / "dataplane/lab/verbs").glob("[!_]*.py") if "\nHELP = " in file.read_text()]
NEWS = (ROOT / "CHANGELOG.md").read_text()


def prose(document: Path) -> str:
    """The text without blocks of code, which may hold what looks like a heading or a link."""
    return re.sub(r"^( *)```.*?^\1```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(document: Path) -> set[str]:
    """The anchors that headings get where Markdown is shown: of two equal ones, the second ends in -1."""
    found, seen = set(), Counter[str]()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(document), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def leads_somewhere(document: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = document.parent / path if path else document
    return file.exists() and (not anchor or anchor in anchors(file))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^):\s]+)\)", prose(document))
    assert [target for target in targets if not leads_somewhere(document, target)] == []


def test_every_document_is_linked() -> None:
    linked = {
        (document.parent / target.partition("#")[0]).resolve()
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^):\s]+)\)", prose(document))
    }
    exercises = ROOT / "dataplane" / "lab" / "exercises"
    assert [
        str(file)
        for file in DOCUMENTS
        if file not in linked and file.name != "README.md" and exercises not in file.parents
    ] == []


def test_every_release_is_told_of() -> None:
    releases = re.findall(r"^## \[?v?([0-9][^\] ]*)", NEWS, re.MULTILINE)
    tags = subprocess.run(["git", "tag", "--list", "v*"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert "## [Unreleased]" in NEWS
    assert [tag for tag in tags.split() if tag.removeprefix("v") not in releases] == []


def test_a_tagged_commit_has_the_version_of_its_tag() -> None:
    command = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert tags in ([], [f"v{__version__}"])


@pytest.mark.parametrize(
    ("page", "files"), [("docs/native.md", "native/*.c"), ("cni/lib/__init__.py", "cni/lib/[!_]*.py")]
)
def test_a_flat_room_has_a_map(page: str, files: str) -> None:
    named = set(re.findall(r"`(\w+)(?:\.c)?`", (ROOT / page).read_text()))
    assert {file.stem for file in ROOT.glob(files)} - named == set()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/backends.md", [f"`{name}`" for name in BACKENDS]),
        ("docs/leases.md", [f"`{scheme}:" for scheme in STORES]),
        ("docs/operate.md", [f"udplane {command}" for command in COMMANDS.keys() - {"flanneld", "cni", "lab"}]),
        ("docs/labs/index.md", ["udplane lab", *(f"`{verb.stem}" for verb in VERBS)]),
        ("docs/labs/exercises.md", [f"| {int(path.name[:2])} |" for path in directories()]),
        ("docs/labs/writing.md", [f"| `{kind}` |" for kind in KINDS]),
        ("docs/flannel.md", ["udplane flanneld"]),
        ("docs/cni.md", ["udplane cni", *(f"`{name}`" for name in MODULES)]),
    ],
)
def test_whatever_there_is_has_its_page(page: str, names: Iterable[str]) -> None:
    text = (ROOT / page).read_text()
    assert [name for name in names if name not in text] == []
