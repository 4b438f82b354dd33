"""Installing the plugins and undoing that, in directories of the test's own.

Nothing is kept warm by plugins that these tests run: they run on this machine itself, not on a node of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni.install import main
from cni.lib import delegate as delegation
from cni.lib import registry
from cni.lib.delegate import delegate
from cni.lib.errors import CniError
from cni.lib.skel import Call
from tests.cni.plugin_calls import environment

COLD = ("--keep-warm", "0")
BY_DEFAULT = ()


def install(bin_dir: Path, *more: str, manner: tuple[str, ...] = COLD) -> None:
    assert main(["--bin-dir", str(bin_dir), *manner, *more]) == 0


def run(path: Path, conf: object = None, verb: str = "ADD") -> subprocess.CompletedProcess[str]:
    env = environment(verb, CNI_PATH=str(path.parent))
    return subprocess.run([path], env=env, input=json.dumps(conf), capture_output=True, text=True, check=False)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    install(directory)
    return directory


@pytest.mark.parametrize("name", ["bridge", "flannel", "host-local", "loopback", "static"])
def test_every_plugin_runs_under_its_official_name(bin_dir: Path, name: str) -> None:
    version = run(bin_dir / name, verb="VERSION")
    assert (version.returncode, version.stderr) == (0, "")
    assert json.loads(version.stdout)["cniVersion"] == "1.1.0"


def test_a_launcher_needs_neither_checkout_nor_site_packages(bin_dir: Path) -> None:
    code = "import sys, cni; print(cni.__file__, sys.flags.isolated, sys.flags.no_site)"
    launcher = (bin_dir / "static").read_text().replace("main(sys.argv[0])", code)
    probe = bin_dir / ".udplane" / "probe.py"
    probe.write_text(launcher.replace("/.udplane/", "/"))
    answer = subprocess.run([sys.executable, "-IS", probe], capture_output=True, text=True, check=True).stdout.split()
    probe.unlink()
    assert answer[0].startswith(str(bin_dir))
    assert answer[1:] == ["1", "1"]


def test_byte_code_is_installed_and_used(bin_dir: Path) -> None:
    library = next((bin_dir / ".udplane").glob("lib-*"))
    sources = sorted(path.relative_to(library) for path in library.rglob("*.py"))
    before = {path: path.stat().st_mtime_ns for path in library.rglob("*.pyc")}
    assert len(before) == len(sources)
    run(bin_dir / "static", {"cniVersion": "1.0.0", "name": "n"})
    assert {path: path.stat().st_mtime_ns for path in library.rglob("*.pyc")} == before


def test_an_unknown_name_is_told_the_names(bin_dir: Path) -> None:
    os.link(bin_dir / "static", bin_dir / "statik")
    answer = run(bin_dir / "statik")
    (bin_dir / "statik").unlink()
    assert answer.returncode == 1
    assert "there is no plugin of this name; the names are " in answer.stderr


def test_through_a_symbolic_link(bin_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "static").symlink_to(bin_dir / "static")
    assert run(tmp_path / "static", verb="VERSION").returncode == 0


def test_installing_again_changes_nothing(bin_dir: Path) -> None:
    before = tree(bin_dir)
    install(bin_dir)
    assert tree(bin_dir) == before


@pytest.mark.parametrize("manner", [COLD, BY_DEFAULT])
def test_uninstalling_leaves_the_directories_as_they_were(tmp_path: Path, manner: tuple[str, ...]) -> None:
    bin_dir, conf_dir = tmp_path / "bin", tmp_path / "net.d"
    bin_dir.mkdir()
    conf_dir.mkdir()
    (bin_dir / "bridge").write_bytes(b"\x7fELF the official one")
    (bin_dir / "bridge").chmod(0o755)
    (bin_dir / "other").write_text("other")
    (conf_dir / "99-other.conf").write_text("{}")
    before = tree(tmp_path)
    for _ in range(2):
        install(bin_dir, "--conf-dir", str(conf_dir), manner=manner)
    if manner == COLD:
        assert run(bin_dir / "bridge", verb="VERSION").returncode == 0
    assert main(["--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir), "--uninstall"]) == 0
    assert tree(tmp_path) == before
    assert os.access(bin_dir / "bridge", os.X_OK)
    assert main(["--bin-dir", str(bin_dir), "--conf-dir", str(conf_dir), "--uninstall"]) == 0
    assert tree(tmp_path) == before


def official(path: Path, version: str = "1.1.1") -> bytes:
    content = f"\x7fELF the official one, {version}".encode()
    path.write_bytes(content)
    path.chmod(0o755)
    return content


def test_what_is_copied_over_one_plugin_harms_no_other(tmp_path: Path) -> None:
    """`cp -f` writes into the file that is there; so does the init container of kube-flannel, at every start."""
    before = official(tmp_path / "bridge")
    install(tmp_path)
    mine, foreign = (tmp_path / "flannel"), b"\x7fELF another flannel"
    inodes = {path.stat().st_ino for path in tmp_path.iterdir() if path.is_file()}
    assert len(inodes) == len(registry.MODULES)
    (tmp_path / "source").write_bytes(foreign)
    subprocess.run(["cp", "-f", tmp_path / "source", mine], check=True)
    for name in sorted(registry.MODULES.keys() - {"flannel"}):
        assert run(tmp_path / name, verb="VERSION").returncode == 0, name
    assert main(["--bin-dir", str(tmp_path), "--uninstall"]) == 0
    assert tree(tmp_path) == {"bridge": before, "flannel": foreign, "source": foreign}


def test_a_newer_plugin_that_came_meanwhile_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bridge", "ptp", "static"):
        official(tmp_path / name)
    install(tmp_path)
    newer = official(tmp_path / "new", "1.9.1")
    (tmp_path / "new").rename(tmp_path / "bridge")  # as dpkg does it
    (tmp_path / "ptp").unlink()
    assert main(["--bin-dir", str(tmp_path), "--uninstall"]) == 0
    assert tree(tmp_path) == {"bridge": newer, "static": (tmp_path / "static").read_bytes()}
    output = capsys.readouterr().out
    assert f"did not put back the former {tmp_path}/bridge: there is another one now" in output
    assert f"did not put back the former {tmp_path}/ptp: somebody has removed the plugin since" in output


def test_of_several_replaced_plugins_the_newest_comes_back(tmp_path: Path) -> None:
    official(tmp_path / "bridge")
    install(tmp_path)
    newer = official(tmp_path / "new", "1.9.1")
    (tmp_path / "new").rename(tmp_path / "bridge")
    install(tmp_path)
    assert main(["--bin-dir", str(tmp_path), "--uninstall"]) == 0
    assert tree(tmp_path) == {"bridge": newer}


def test_links_come_back_as_they_were(tmp_path: Path) -> None:
    """k3s has one program under many names, each a link to it; other links lead to what is not mounted yet."""
    bin_dir, elsewhere = tmp_path / "bin", tmp_path / "elsewhere"
    bin_dir.mkdir()
    elsewhere.mkdir()
    multicall = official(bin_dir / "cni")
    install(elsewhere)
    targets = {"bridge": "cni", "portmap": "../bin/cni", "ptp": "/nowhere/ptp", "static": f"{elsewhere}/static"}
    for name, target in targets.items():
        (bin_dir / name).symlink_to(target)
    for _ in range(2):
        install(bin_dir)
    assert all(run(bin_dir / name, verb="VERSION").returncode == 0 for name in registry.MODULES)
    assert main(["--bin-dir", str(bin_dir), "--uninstall"]) == 0
    assert {path.name: str(path.readlink()) for path in bin_dir.iterdir() if path.is_symlink()} == targets
    assert (bin_dir / "cni").read_bytes() == multicall
    assert sorted(path.name for path in bin_dir.iterdir()) == sorted(["cni", *targets])


def test_a_directory_in_a_plugins_place_is_told_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ptp").mkdir()
    assert main(["--bin-dir", str(tmp_path)]) == 1
    assert "/ptp is a directory: remove it, or choose another --bin-dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "ptp"]


@pytest.mark.parametrize("manner", [COLD, BY_DEFAULT])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_of_whoever_installs_does_not_count(tmp_path: Path, umask: int, manner: tuple[str, ...]) -> None:
    former = os.umask(umask)
    try:
        install(tmp_path / "new" / "bin", "--conf-dir", str(tmp_path / "new" / "net.d"), manner=manner)
    finally:
        os.umask(former)
    for path in (tmp_path / "new").rglob("*"):
        executable = path.is_dir() or path.parent.name == "bin" or path.name == "start"
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o755 if executable else 0o644), path


def test_a_conflist_that_somebody_changed_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf_dir = tmp_path / "net.d"
    install(tmp_path / "bin", "--conf-dir", str(conf_dir))
    path = conf_dir / "10-udplane.conflist"
    conflist = json.loads(path.read_text())
    assert [plugin["type"] for plugin in conflist["plugins"]] == ["flannel", "portmap"]
    assert conflist["cniVersion"] == "1.0.0"
    path.write_text("{}")
    install(tmp_path / "bin", "--conf-dir", str(conf_dir))
    assert "kept" in capsys.readouterr().out
    assert main(["--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(conf_dir), "--uninstall"]) == 0
    assert path.read_text() == "{}"


def test_an_interpreter_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, "--python", "/host/usr/bin/python3")
    assert (tmp_path / "static").read_text().startswith("#!/host/usr/bin/python3 -IS\n")
    assert "the plugins' machine has to have it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--python", "python3"], 1, "give the interpreter's absolute path"),
        (["--python", "/bin/false"], 1, "/bin/false is not Python 3.11 or newer"),
        (["--frobnicate"], 2, "unrecognized arguments"),
    ],
)
def test_unusable_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert main(["--bin-dir", str(tmp_path / "bin"), *arguments]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_directory_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--bin-dir", str(tmp_path / "file" / "bin")]) == 1
    assert capsys.readouterr().err.startswith("udplane cni install: ")


class Executed(Exception):  # noqa: N818 - a sign, not an error
    """A delegate was run as a program."""


def test_a_delegate_of_the_same_installation_runs_in_this_process(
    bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(path: str, call: Call) -> None:
        raise Executed(path)

    monkeypatch.setattr(delegation, "_execute", execute)
    call = Call(environment("ADD", CNI_PATH=f"/nowhere:{bin_dir}"))
    call.conf = {"ipam": {"addresses": [{"address": "10.1.2.3/24"}, {"address": "10.1.2.4/24"}]}}
    call.name, call.version = "n1", "1.0.0"
    with pytest.raises(Executed):
        delegate(call, "static", "ADD")
    monkeypatch.setattr(registry, "launcher", str(bin_dir / "bridge"))
    result = delegate(call, "static", "ADD")
    assert result is not None
    assert [str(ip.address) for ip in result.ips] == ["10.1.2.3/24", "10.1.2.4/24"]
    install(tmp_path)
    call.path = [str(tmp_path)]
    with pytest.raises(Executed, match=str(tmp_path)):
        delegate(call, "static", "ADD")
    monkeypatch.setattr(registry, "launcher", str(tmp_path / "bridge"))
    content = (tmp_path / "static").read_bytes()
    (tmp_path / "static").write_bytes(content.swapcase())  # of the same size
    with pytest.raises(Executed, match=str(tmp_path)):
        delegate(call, "static", "ADD")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "netplugin failed with no error message: exit status 3"),
        ("kill -9 $$", "netplugin failed with no error message: signal: 9"),
        ("echo oops; exit 1", 'netplugin failed but error parsing its diagnostic message "oops\\n": invalid character'),
        ("echo '[]'; exit 1", 'netplugin failed but error parsing its diagnostic message "[]\\n": '),
        ("""echo '{"code":7,"msg":"no","details":"why"}'; exit 1""", "no"),
        ("echo '{'", "unexpected end of JSON input"),
        ("echo '[1]'", "the plugin's answer is not a JSON object"),
        ("""echo '{"cniVersion":"9"}'""", 'unsupported CNI result version "9"'),
    ],
)
def test_what_a_foreign_delegate_may_answer(tmp_path: Path, script: str, message: str) -> None:
    (tmp_path / "foreign").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "foreign").chmod(0o755)
    call = Call(environment("ADD", CNI_PATH=str(tmp_path)))
    call.name, call.version = "n1", "1.0.0"
    with pytest.raises(CniError) as caught:
        delegate(call, "foreign", "ADD", {"name": "n1"})
    assert caught.value.msg.startswith(message)


def test_a_delegate_gets_what_a_runtime_would_give_it(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text('#!/bin/sh\ncat > "$0.in"; env > "$0.env"; echo "{}"\n')
    (tmp_path / "foreign").chmod(0o755)
    call = Call(environment("DEL", CNI_PATH=str(tmp_path), PATH=os.environ["PATH"], EXTRA="kept"))
    call.stdin, call.version = b'{"name": "n1"}', "1.0.0"
    delegate(call, "foreign", "ADD")
    assert (tmp_path / "foreign.in").read_bytes() == call.stdin
    passed = (tmp_path / "foreign.env").read_text().splitlines()
    assert {"CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "EXTRA=kept"} <= set(passed)
