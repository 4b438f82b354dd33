"""`udplane lab web` as a user runs it: with a lab that goes and comes back, to a file, with something missing."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.netns import LabError
from dataplane.lab.web import outside, server
from tests.lab.labs import Labs, labs
from tests.lab.web.conftest import RECORDING
from tests.waiting import wait_until

COMMAND = [sys.executable, "-I", "-m", "dataplane.cli", "lab"]


@pytest.fixture
def own(tun_device: None) -> Iterator[Labs]:
    with labs() as found:
        yield found


def asked(port: int, token: str, target: str) -> dict[str, Any] | None:
    """The answer of the page's server; None where none answers."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", target, headers={"Cookie": f"udplane_lab_{port}={token}"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
    except (OSError, ValueError, http.client.HTTPException):
        return None


def test_the_page_outlives_a_lab_and_not_its_command(own: Labs) -> None:
    own.up()
    page = own.start("web", "--no-open")
    try:
        assert page.stdout is not None
        assert page.stdout.readline() == "The page of lab default, for you alone; Ctrl-C ends it:\n"
        address = page.stdout.readline().strip()
        port, token = int(address.split(":")[2].partition("/")[0]), address.partition("token=")[2]

        def pods() -> list[Any]:
            lab = asked(port, token, "/api/lab") or {}
            return list(lab.get("pods", []))

        wait_until(lambda: len(pods()) == 4, "the page to show the lab", 20)
        counters = asked(port, token, "/api/live")
        assert counters and set(counters["nodes"]) == {"node1", "node2"}
        own.run("down")
        assert page.stdout.readline().startswith("Lab default is gone; the page waits")
        own.up()
        wait_until(lambda: len(pods()) == 4, "the page to show the new lab, by the same address", 20)
    finally:
        page.send_signal(signal.SIGKILL)
        page.communicate()
    wait_until(lambda: not serves(own), "the half inside to end with the one outside")


def serves(own: Labs) -> bool:
    """Whether a process of a page is left."""
    for pid in own.processes():
        try:
            if b"\0web\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize(
    ("line", "wish"),
    [
        (b'["start", "3"]\n', ["start", "3"]),
        (b"", []),
        (b"nonsense\n", []),
        (b'["down"]\n', []),
        (b'["start", 3]\n', []),
        (b'{"start": 1}\n', []),
        (b"[]\n", []),
    ],
)
def test_a_server_wishes_for_exercises_alone(line: bytes, wish: list[str]) -> None:
    assert outside.wish_of(line) == wish


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, where no lab stands."""
    command = [*COMMAND, "web", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_recording_becomes_a_file(tmp_path: Path) -> None:
    done = run("--export", str(tmp_path / "walk.html"), str(RECORDING))
    assert (done.returncode, done.stderr) == (0, "")
    assert "opens in any browser, offline" in done.stdout
    assert (tmp_path / "walk.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no lab called default stands"),
        (["--port", "99999"], "a port is a number from 1 to 65535"),
        (["--port", "x"], "invalid int value"),
        (["--export", "{tmp}/x.html"], "name one that `udplane lab walk FROM TO --save FILE` makes"),
        (["--export", "{tmp}/x.html", "{tmp}/missing.json"], "cannot read"),
        (["--export", "{tmp}/x.html", "{tmp}/text.json"], "text.json: "),
        (["--export", "{tmp}/no/x.html", "{recording}"], "cannot write"),
        (["--without-linux", "--pyodide", "{tmp}"], "is no Pyodide"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no recording")
    filled = [word.replace("{tmp}", str(tmp_path)).replace("{recording}", str(RECORDING)) for word in arguments]
    done = run(*filled, UDPLANE_LAB_DIR=str(tmp_path / "labs"))
    assert done.returncode in (1, 2)
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('not here', name='uvicorn')")
    text = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from dataplane.cli import main; "
    text += "sys.exit(main(['lab', 'web', '--without-linux']))"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "udplane: the page needs uvicorn: pip install 'udplane[lab]'\n")


def test_a_codespace_is_reached_by_its_forwarded_name() -> None:
    environment = {"CODESPACE_NAME": "Red-Fox", "GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "app.github.dev"}
    assert server.codespace_host(8080, environment) == "red-fox-8080.app.github.dev"
    assert server.codespace_host(8080, {}) is None


def test_a_port_in_use_is_told() -> None:
    with server.listen(0) as taken, pytest.raises(LabError, match=r"leave --port out"):
        server.listen(taken.getsockname()[1])
