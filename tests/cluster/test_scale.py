"""The benchmark of large clusters, run small: its figures are judged elsewhere, here that it gives them."""

import json
import subprocess
import sys
from pathlib import Path

from bench.scale import Figures
from tests.stores.etcd_server import require_etcd

CASES = ["etcd, udp", "sqlite, vxlan"]
"""Both stores, and a backend of either kind."""


def test_every_case_gives_every_figure(namespaces: None, tun_device: None, tmp_path: Path) -> None:
    require_etcd()
    file = tmp_path / "figures.json"
    small = ["--leases", "60", "--changes", "30", "--engine", "python", "--cases", *CASES, "--json", str(file)]
    done = subprocess.run([sys.executable, "-m", "bench.scale", *small], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(file.read_text())
    assert document["environment"]["leases"] == "60"
    assert list(document["figures"]) == CASES
    for figures in document["figures"].values():
        assert set(figures) == set(Figures.__dataclass_fields__)
        assert (figures["echoes"] > 0, figures["echoes_lost"]) == (True, 0)
    for name in Figures.__dataclass_fields__:
        assert name.replace("_", " ") in done.stdout
