"""Exercises that need no lab: filled in from their recordings, answers as hashes, an engine judged in the page."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab import golden
from dataplane.lab.netns import LabError
from dataplane.lab.teaching import exercise as exercises
from dataplane.lab.teaching.kinds import answers
from dataplane.lab.web import assets, without_linux
from dataplane.lab.web.engine import Engine, starter
from dataplane.packets.verdicts import Verdict

NUMBERS = (4, 9, 12)
ANSWERS = {
    (4, 1): {"begin": "42", "first": "0x45"},
    (4, 3): {"inner_len": "84", "udp_len": "92", "outer_len": "112", "frame": "126"},
    (9, 1): {"pod": "10.254.1.2", "server": "192.168.0.201"},
    (9, 2): {"inside": "10.254.1.2", "spared": "10.254.0.0/16"},
}
"""What is right in the recordings' labs."""

DOCUMENTS = {one["number"]: one for one in without_linux.exercises()}


def checks(number: int, step: int) -> dict[str, dict[str, Any]]:
    """The questions of a step, by name."""
    return {check["name"]: check for check in DOCUMENTS[number]["steps"][step - 1]["checks"] if "name" in check}


def test_these_exercises_need_no_linux() -> None:
    assert tuple(DOCUMENTS) == NUMBERS
    assert [len(DOCUMENTS[number]["walks"]) for number in NUMBERS] == [1, 1, 0]


@pytest.mark.parametrize(("number", "step"), ANSWERS, ids=lambda value: str(value))
def test_right_answers_are_known_by_their_hash(number: int, step: int) -> None:
    known = checks(number, step)
    for name, answer in ANSWERS[number, step].items():
        assert without_linux.hashed(known[name]["salt"], answer) in known[name]["is"]
        assert without_linux.hashed(known[name]["salt"], f" {answer}1") not in known[name]["is"]


def test_a_wrong_answer_has_its_hint() -> None:
    check = checks(9, 1)["server"]
    hint = check["wrong"][without_linux.hashed(check["salt"], "10.254.1.2")]
    assert base64.b64decode(hint).decode().startswith("So it was in the pod")


def test_no_right_answer_stands_in_clear_text() -> None:
    for document in DOCUMENTS.values():
        for step in document["steps"]:
            text = json.dumps([step["checks"], step["hints"]])
            for check in step["checks"]:
                assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in check.get("is", ()))
            assert "solution" not in text and "={" not in text


def test_every_name_is_filled_in() -> None:
    for document in DOCUMENTS.values():
        text = json.dumps([(step["title"], step["text"], step["checks"]) for step in document["steps"]])
        assert re.findall(r"\{[a-z][\w.+-]*\}", text) == []


def test_a_worked_solution_is_in_the_hint_that_names_it() -> None:
    last = base64.b64decode(DOCUMENTS[12]["steps"][0]["hints"][-1]).decode()
    assert "```\n" in last and "class Engine:" in last


def test_each_step_of_the_engine_has_its_golden_packets() -> None:
    found = [check["cases"] for step in DOCUMENTS[12]["steps"] for check in step["checks"] if "cases" in check]
    assert [len(cases) > 5 for cases in found] == [True, True, True]
    assert len(found[-1]) == len(golden.cases())


def test_a_recording_of_no_lab_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "04-read-a-datagram"
    shutil.copytree(exercises.packaged() / copy.name, copy)
    recording = json.loads((copy / "walk.json").read_bytes())
    recording["lab"]["nodes"][0]["colour"] = "red"
    (copy / "walk.json").write_text(json.dumps(recording))
    with pytest.raises(LabError, match="04-read-a-datagram"):
        without_linux.document(exercises.load(copy))


@pytest.mark.parametrize(
    ("written", "meant"), [(" 0x2A ", "42"), ('"Echo   Request".', "echo request"), ("'10.0.0.1'", "10.0.0.1")]
)
def test_an_answer_may_be_written_in_several_ways(written: str, meant: str) -> None:
    assert answers.plain(written) == meant


def test_the_page_explains_each_rule() -> None:
    rule = assets.words()["en"]["page"]["rule"]
    verdicts = {v.name: f"{v.name} is for: {v.description}" for v in Verdict if v != Verdict.FORWARDED}
    assert rule == {**golden.RULES, **verdicts}


def test_the_judge_of_the_page_needs_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(Engine().zip)) as archive:
        archive.extractall(tmp_path)
    mine = tmp_path / "mine.py"
    mine.write_text(starter())
    mine.chmod(0o600)
    text = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.modules['cffi'] = sys.modules['pyroute2'] = None\n"
    # What Python for browsers has not got.
    text += "import os; del os.geteuid\n"
    text += "from pathlib import Path; from dataplane.lab import golden\n"
    text += f"print(golden.__file__, sum(1 for one in golden.judge(Path({str(mine)!r})) if not one.passed))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True)
    file, failed = done.stdout.rsplit(maxsplit=1)
    assert file == str(tmp_path / "dataplane/lab/golden.py") and int(failed) > 100


def test_a_directory_without_pyodide_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"is no Pyodide: pyodide\.mjs is missing"):
        Engine(tmp_path)
