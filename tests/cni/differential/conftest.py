"""What the differential runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cni.differential.record import Record


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest, run_directory: Path) -> Record:
    """The record of the calling module's cases."""
    return Record(run_directory / f"{request.module.__name__}-coverage")
