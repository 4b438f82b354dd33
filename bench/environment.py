"""What figures depend on, kept with them."""

import os
import platform
import subprocess
import time
from pathlib import Path


def machine() -> dict[str, str]:
    """Date, revision of the code, kernel and processors."""
    here = Path(__file__).parent
    revision = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "revision": revision.stdout.strip() or "unknown",
        "kernel": platform.release(),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "processors": str(os.cpu_count()),
    }
