"""What the doctor says about the kernel that it runs on."""

import platform
from pathlib import Path

import pytest

from dataplane.commands.doctor import examine
from dataplane.options import NodeOptions
from dataplane.stores.base import StoreOptions

pytest.importorskip("dataplane.engines.native", reason="the C extension is not built")


@pytest.mark.parametrize(
    ("release", "level", "words"),
    [
        ("4.17.19", "WARN", "cannot segment UDP"),
        ("4.18.0-553.el8", "OK", "Linux 4.18.0"),
        ("6.18.44", "OK", "Linux 6.18.44"),
        ("7.0.0-rc1", "WARN", "spoils segmented sends"),
        ("7.1.4", "WARN", "spoils segmented sends"),
        ("7.1.5-generic", "OK", "Linux 7.1.5"),
    ],
)
def test_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, level: str, words: str) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    options = NodeOptions(store=f"sqlite:{tmp_path}/store.db", engine="native", run_dir=tmp_path)
    (finding,) = (f for f in examine(options, StoreOptions()) if f.check == "kernel")
    assert finding.level == level
    assert words in finding.text
    assert bool(finding.remedy) == (level != "OK")
