"""An interpreter that is started runs no code of the working directory, nor what the caller's environment names."""

import re
import subprocess
from pathlib import Path

import pytest

from dataplane.lab import demo
from dataplane.lab.overlay import UDPLANE

ROOT = Path(__file__).parents[2]
STARTED = re.compile(r'(?<![(\w])sys\.executable,(?!\s+"-I|\s+"-m", "bench\.).*')
"""The benchmarks are no package that is installed: they run where the checkout is."""


def test_every_interpreter_is_started_in_isolation() -> None:
    files = [path for place in ("dataplane", "cni", "bench", "tests") for path in (ROOT / place).rglob("*.py")]
    careless = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in files
        for found in STARTED.finditer(path.read_text())
        if path != Path(__file__)
    ]
    assert not careless, "start it with -I"


@pytest.mark.parametrize(
    "command",
    [
        [str(UDPLANE), "cni", "install", "--bin-dir", "bin"],
        [str(UDPLANE.with_name("python")), "-I", "-m", demo.MODULE, "--help"],
        [str(UDPLANE), "--version"],
    ],
)
def test_the_working_directory_is_not_trusted(tmp_path: Path, command: list[str]) -> None:
    for name in ("cni", "dataplane", "json", "encodings", "site", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    for name in ("cni", "dataplane"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert done.returncode == 0, done.stderr
