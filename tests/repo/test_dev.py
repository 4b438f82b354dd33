"""The script a newcomer runs: its verbs and what it says about itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.suite.quick import CHOSEN

ROOT = Path(__file__).parents[2]


def dev(*arguments: str, path: str | None = None, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the script, with another PATH, or by another program."""
    environment = {**os.environ, **({"PATH": path} if path else {})}
    command = [*launcher, str(ROOT / "dev"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_help_names_every_verb() -> None:
    (cases,) = re.findall(r"case \$verb in\n(.*?)\n    esac", (ROOT / "dev").read_text(), re.DOTALL)
    verbs = re.findall(r"^        (\w+)[ )]", cases, re.MULTILINE)
    done = dev("help")
    assert done.returncode == 0
    assert verbs == re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("verb", ["tset", "--version"])
def test_an_unknown_verb_is_wrong_usage(verb: str) -> None:
    done = dev(verb)
    assert done.returncode == 2
    assert f"no verb '{verb}'" in done.stderr


@pytest.mark.parametrize("arguments", [("trixie", "tests/cni"), ("-k", "vlan"), ("--help",)])
def test_a_kernel_that_is_no_suite_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = dev("test", "--kernels", *arguments)
    assert done.returncode == 2
    assert "[SUITE ...] [-- PYTEST ARGUMENT ...]" in done.stderr


def programs(directory: Path, *names: str) -> str:
    """A PATH with these programs of this machine and no others."""
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(str(shutil.which(name)))
    return str(directory)


def test_an_ordinary_user_is_told_the_line_to_run(namespaces: None, tmp_path: Path) -> None:
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\n")  # nothing is installed
    query.chmod(0o755)
    (tmp_path / "apt-get").symlink_to("/bin/false")
    done = dev("demo", path=f"{tmp_path}:{os.environ['PATH']}", launcher=("unshare", "--user", "--map-user=1000"))
    assert done.returncode == 1
    assert re.search(r"^    sudo apt-get install -y .*gcc.* iproute2 .*nftables", done.stderr, re.MULTILINE)


def test_other_distributions_are_told_the_packages(tmp_path: Path) -> None:
    done = dev("demo", path=programs(tmp_path / "bin", "bash", "dirname", "env", "python3", "readlink", "ip"))
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    assert "these programs are missing: gcc nft unshare" in first
    assert [line.split()[0] for line in lines] == ["dnf", "zypper", "pacman", "apk"]


def test_what_forbids_a_demo_is_said_before_anything_is_built(namespaces: None, tmp_path: Path) -> None:
    shutil.copy(ROOT / "dev", tmp_path)
    (tmp_path / "dataplane").symlink_to(ROOT / "dataplane")
    path = programs(tmp_path / "bin", "bash", "dirname", "env", "readlink", "ip", "gcc", "nft", "unshare", "true")
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
    no_tun = f"mount -t tmpfs none /dev/net && PATH={path} exec {tmp_path}/dev demo"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", no_tun], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "cannot open /dev/net/tun" in done.stderr
    assert "virtual environment" not in done.stderr


def test_the_hooks_of_a_commit_are_programs_of_the_checks() -> None:
    text = (ROOT / "dev").read_text()
    (checks,) = re.findall(r"^check\(\) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    commands = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert [command for command in commands if command not in checks] == ["./dev check"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_hook_for_scripts_sees_those_that_the_checks_see() -> None:
    (patterns,) = re.findall(r'step "shell" shellcheck -x (.*?) \|\|', (ROOT / "dev").read_text())
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (files,) = (hook["files"] for hook in repository["hooks"] if hook["id"] == "shell")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    scripts = {str(file.relative_to(ROOT)) for pattern in patterns.split() for file in ROOT.glob(pattern)}
    assert {file for file in tracked if re.search(files, file)} == scripts


def test_the_quick_part_is_of_files_that_are_there() -> None:
    for place in CHOSEN:
        path = place.partition("::")[0]
        assert list(ROOT.glob(f"{path}*")), place
