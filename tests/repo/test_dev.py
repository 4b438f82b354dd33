"""The script a newcomer runs: its verbs and what it says about itself."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "dev", *arguments], capture_output=True, text=True, check=False, timeout=30)


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
