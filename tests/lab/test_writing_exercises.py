"""What somebody who writes an exercise is told: every mistake with file, line and what to write instead."""

import json
from pathlib import Path

import pytest

from dataplane.errors import UdplaneError, UsageError
from dataplane.lab.teaching.exercise import Exercise, load
from dataplane.lab.teaching.kinds import KINDS
from dataplane.lab.teaching.kinds.base import Room
from dataplane.lab.teaching.progress import Progress
from dataplane.lab.teaching.variables import Variables, chosen
from dataplane.lab.verbs import report
from dataplane.lab.view import LabView, NodePlace, PodPlace

GOOD = """\
title = "A title"
goal = "A goal."
[vary]
port = [2000, 2999]
[[start]]
where = "node1"
run = "true {node1.ip}"
[[steps]]
title = "A step"
text = "{pod1.ip} {port} {port+1} ${HOME} { nft }"
hints = ["one", "two"]
[[steps.checks]]
kind = "answer"
name = "a"
question = "what?"
is = ["{pod1.ip}"]
wrong = { "{node1.ip}" = "the node's" }
"""


def written(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in ("text.md", "teacher.md"):
        (directory / name).write_text("# Text\n")
    (directory / "lab.toml").write_text(text)
    return directory


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    return load(written(tmp_path / "mine", GOOD))


def test_a_good_one_is_read(exercise: Exercise) -> None:
    assert (exercise.number, exercise.name, exercise.minutes) == (0, "mine", 15)
    assert exercise.steps[0].checks[0].kind_name == "answer"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title = ", "titel = ", r"mine/lab.toml:1: titel is not known; did you mean title\?|title: is needed"),
        ("goal = ", "# goal = ", "goal: is needed here"),
        ("[2000, 2999]", "[2999, 2000]", "lab.toml:4: vary.port: write two whole numbers, the smaller one first"),
        ("[2000, 2999]", "2000", "lab.toml:4: vary.port: write two whole numbers"),
        ("true {node1.ip}", "true {node1.ipp}", r"lab.toml:5: \{node1.ipp\} stands for nothing; of a place there are"),
        ("{port}", "{prot}", r"lab.toml:8: \{prot\} stands for nothing; there are .*\[vary\] names more"),
        ('kind = "answer"', 'kind = "anwser"', "lab.toml:13: .*kind: 'anwser' is not one of .*did you mean answer"),
        ('kind = "answer"\n', "", "lab.toml:12: .*kind: is needed; there are reachable"),
        ('name = "a"', 'name = "A b"', "write a name of small letters"),
        ('is = ["{pod1.ip}"]', "is = []", "write the right answers"),
        ('question = "what?"', 'question = "what?"\nhint = "x"', "lab.toml:16: .*hint is not known; there are|did you"),
        ('hints = ["one", "two"]\n', "", "lab.toml:8: a step has hints"),
        ("[[steps.checks]]", "[[steps.cheks]]", "cheks is not known; did you mean checks|shows by itself"),
        ("[[steps]]", "[steps]", r"write tables \[\[steps\]\]"),
        ('title = "A title"', "title = A title", "lab.toml:1: this is no TOML: a text needs quotes"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(UdplaneError, match=words) as caught:
        load(written(tmp_path / "mine", GOOD.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


def test_a_missing_text_is_told(tmp_path: Path) -> None:
    (written(tmp_path / "mine", GOOD) / "teacher.md").unlink()
    with pytest.raises(UdplaneError, match=r"mine: teacher.md is missing"):
        load(tmp_path / "mine")


VIEW = LabView(
    "lab",
    "/nowhere",
    {"Network": "10.254.0.0/16"},
    "sqlite:x",
    nodes=(NodePlace("node1", "node1", ("192.168.0.201/24",), subnets=("10.254.1.0/24", "fd00::/64")),),
    pods=(PodPlace("pod1", "pod1", ("10.254.1.2/24",), node="node1", host_device="veth-pod1"),),
)


def test_names_become_what_the_lab_has() -> None:
    variables = Variables(VIEW, numbers={"size": 100})
    text = "{pod1.ip} {node1.gateway} {node1.host10} {node1.subnet6} {pod1.veth} {size+28} {nobody} { nft } ${HOME}"
    wanted = "10.254.1.2 10.254.1.1 10.254.1.10 fd00::/64 veth-pod1 128 10.254.255.254 { nft } ${HOME}"
    assert variables.fill(text) == wanted


def test_a_seed_chooses_numbers_and_always_the_same() -> None:
    ranges = {"port": (2000, 2999), "size": (1, 1)}
    assert chosen(ranges, 0) == {"port": 2000, "size": 1}
    assert chosen(ranges, 7) == chosen(ranges, 7) != chosen(ranges, 8)


@pytest.mark.parametrize("given", ["10.254.1.2", " 10.254.1.2. ", '"10.254.1.2"'])
def test_an_answer_may_be_written_in_more_than_one_way(exercise: Exercise, given: str) -> None:
    room = Room(VIEW, Variables(VIEW), {"a": given})
    assert exercise.steps[0].checks[0].run(room).ok


def test_a_wrong_answer_gets_its_own_hint(exercise: Exercise) -> None:
    room = Room(VIEW, Variables(VIEW), {"a": "192.168.0.201"})
    assert exercise.steps[0].checks[0].run(room).hint == "the node's"
    assert exercise.steps[0].checks[0].run(Room(VIEW, Variables(VIEW), {"a": "\0" * 900})).ok is False


def test_every_kind_says_what_it_asks() -> None:
    assert [name for name, kind in KINDS.items() if not kind.text] == []


def test_a_report_is_read_and_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "anna.json"
    file.write_text(json.dumps({"student": "=HYPERLINK()", "exercises": [{"exercise": "03-x", "solved": {"1": 5.0}}]}))
    rows = [
        report.row(one["student"], Progress.from_document(e)) for one in [report.read(file)] for e in one["exercises"]
    ]
    assert rows[0][1:5] == ("03-x", "0", "-", "1")
    assert report.harmless(rows[0][0]).startswith("'=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"student": 1, "exercises": []}',
        '{"student": "a"}',
        '{"student": "a", "exercises": [{"exercise": 1}]}',
        '{"student": "a", "exercises": [{"exercise": "x", "started": 1e300}]}',
        '{"student": "a", "exercises": [{"exercise": "x", "solved": {"one": 1}}]}',
        '{"student": "a", "exercises": [{"exercise": "x", "hints": {"1": "many"}}]}',
        '{"student": "a", "exercises": [{"exercise": "x", "colour": "red"}]}',
    ],
)
def test_what_is_no_report_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "no.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="is no report") as caught:
        report.read(file)
    assert "\n" not in str(caught.value)
