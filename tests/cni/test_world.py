"""The private node of the tests of the plugins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cni.world import worker


def test_removes_a_directory_in_which_somebody_else_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm interpreter starts in the background, and puts its socket there when it is ready."""
    directory, latecomers = tmp_path / "run", ["socket", "lock"]
    directory.mkdir()
    rmdir = os.rmdir

    def remove_busy(path: str, *where: Any, **options: Any) -> None:
        if latecomers:
            (directory / latecomers.pop()).touch()
        rmdir(path, *where, **options)

    monkeypatch.setattr(os, "rmdir", remove_busy)
    worker.remove_tree(directory)
    assert not directory.exists()
    assert not latecomers
