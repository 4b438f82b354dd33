"""The command line: exit status, one line on stderr, help, and the network config in a store."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.cli import COMMANDS, main

OF_ITS_OWN = "flanneld"
"""Reads its flags by itself."""


def run(*arguments: str) -> int:
    """The exit status of a command, also where argparse ends it."""
    try:
        return main(list(arguments))
    except SystemExit as ended:
        return int(ended.code or 0)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"    {command} " in text


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {OF_ITS_OWN}))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"usage: udplane {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["up", "--nonsense"],
        ["up", "--workers", "0"],
        ["up", "--eng", "python"],
        ["status", "--jso"],
        ["capture"],
        ["capture", "-w", "x", "--count", "0"],
        ["stats", "--interval", "nan"],
        ["config"],
        ["config", "set"],
        ["cni", "remove"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", [["status"], ["peers"], ["stats"], ["capture", "-w", "/dev/null"]])
def test_no_node_is_one_line_and_status_1(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--run-dir", str(tmp_path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"udplane: no node runs with the run directory {tmp_path}; start one with")


def test_the_run_directory_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UDPLANE_RUN_DIR", str(tmp_path))
    assert run("status") == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "doctor", "status", "peers", "stats", "leave"])
def test_an_empty_run_directory_is_not_the_current_one(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", "static:/nonexistent/peers.toml"] if command in ("up", "doctor") else []
    assert run(command, *store, "--run-dir", "") == 2
    assert "an empty text is no path" in capsys.readouterr().err
    monkeypatch.setenv("UDPLANE_RUN_DIR", "")
    assert run(command, *store) == 2
    assert "an empty text is no path" in capsys.readouterr().err


@pytest.mark.parametrize("buffering", [[], ["-u"]])
def test_a_full_disk_is_no_defect(buffering: list[str]) -> None:
    command = [sys.executable, "-I", *buffering, "-m", "dataplane.cli"]
    command += ["doctor", "--json", "--store", "static:/nonexistent/peers.toml"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "udplane: cannot write the output: No space left on device\n"


def test_leaving_where_no_node_was_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("leave", "--run-dir", str(tmp_path / "none")) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_config_is_set_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"Network": "10.5.0.0/16"}\n'
    (tmp_path / "net-conf.json").write_text(text)
    store = ["--store", f"sqlite:{tmp_path}/store.db"]
    assert run("config", "set", str(tmp_path / "net-conf.json"), *store) == 0
    assert run("config", "get", *store) == 0
    assert capsys.readouterr().out == text
    monkeypatch.setenv("UDPLANE_STORE", store[1])
    assert run("config", "get") == 0
    assert capsys.readouterr().out == text


def test_a_config_is_checked_and_spelled_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"network": "10.5.0.0/16"}')))
    assert run("config", "validate", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["Network"], document["SubnetLen"], document["Backend"]) == ("10.5.0.0/16", 24, {"Type": "udp"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b'{"Network": "10.5.0.0/33"}', "'10.5.0.0/33' is not a network"),
    ],
)
def test_a_wrong_config_is_one_line(
    data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(data)
    for verb in (["validate"], ["set", "--store", f"sqlite:{tmp_path}/store.db"]):
        assert run("config", verb[0], str(tmp_path / "x"), *verb[1:]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_config_file_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "validate", "/nonexistent") == 1
    assert capsys.readouterr().err == "udplane: cannot read /nonexistent: No such file or directory\n"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_descriptor_is_no_defect(closed: str) -> None:
    command = f'exec "$1" -I -m dataplane.cli lab list {closed}'
    done = subprocess.run(["sh", "-c", command, "sh", sys.executable], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"Network": "10.5.0.0/16"}')
    command = [sys.executable, "-I", "-m", "dataplane.cli", "config", "validate", str(tmp_path / "x")]
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        reader.wait()
        done = subprocess.run(command, stdout=reader.stdin, stderr=subprocess.PIPE, check=False)
        reader.stdin.close()
    assert (done.returncode, done.stderr) == (1, b"")


def test_status_does_not_import_what_only_the_node_needs() -> None:
    """`udplane status` in a loop must be cheap: netlink alone takes a quarter of a second to import."""
    code = "import sys, dataplane.cli as c; c.main(['status', '--run-dir', '/nonexistent']); "
    code += "print({'pyroute2', 'numpy', 'cffi', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_defect_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def defective(*_: object) -> None:
        raise ZeroDivisionError("of all things\nthis")

    monkeypatch.setattr("dataplane.leases.network_config.NetworkConfig.parse", defective)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    assert run("config", "validate", "-") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "please report it: ZeroDivisionError: of all things this; with UDPLANE_DEBUG=1" in line


def test_the_operators_page_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "operate.md").read_text()
    assert run("up", "--help") == 0
    flags = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert flags
    assert flags == {flag for flag in flags if re.search(rf"`{flag}[ `]", page)}


def test_every_command_is_a_module_and_every_module_a_command() -> None:
    modules = {file.stem for file in (Path(__file__).parents[1] / "dataplane/commands").glob("*.py")}
    assert {name for name in modules if not name.startswith(("__", "with_"))} == COMMANDS.keys() - {OF_ITS_OWN}
