"""Names of a lab: `ping pod3` works inside, since every name is in the /etc/hosts that is seen there.

The file lies in the lab's directory and is mounted over the system's, in the lab's own table of mounts. So is an empty
resolv.conf: a name that is unknown shall be unknown at once, and not be asked for on wires that lead nowhere.
"""

import subprocess
from pathlib import Path

from dataplane.lab.view import LabView

LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"

FILES = {
    "hosts": LOCAL,
    "resolv.conf": "# Names of this lab are in /etc/hosts, and there is nobody else to ask.\n",
    # A name stands for its IPv4 address first, of which lessons tell first (gai.conf(5)).
    "gai.conf": "precedence ::ffff:0:0/96 100\n",
}
"""What covers the files of these names in /etc."""


def mount(directory: Path) -> None:
    """Put the lab's own files over the system's, as far as there are any there to be covered."""
    for name, text in FILES.items():
        file, target = directory / name, Path("/etc", name)
        file.write_text(text)
        file.chmod(0o644)
        if target.exists():
            subprocess.run(["mount", "--bind", str(file), str(target)], check=False, capture_output=True)


def write(view: LabView) -> None:
    """Write the names of a lab down. The file stays the same one, so that it stays mounted."""
    lines = [f"{interface.ip} {place.name}" for place in view.places() for interface in place.interfaces]
    Path(view.directory, "hosts").write_text(LOCAL + "".join(f"{line}\n" for line in lines))
