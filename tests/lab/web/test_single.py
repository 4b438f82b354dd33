"""The page as one file, its texts, and the files that it is made of."""

import json
import re
from pathlib import Path

import pytest

from dataplane.lab.netns import LabError
from dataplane.lab.web import assets, export, single
from tests.lab.web.conftest import RECORDING

SCRIPTS = {file.name: file.read_text("utf-8") for file in (assets.STATIC / "js").glob("*.js")}
ENGLISH = assets.words()["en"]["page"]


def test_what_a_recording_holds_cannot_leave_its_element() -> None:
    evil = '</script><script>alert(1)</script><!-- <script> \u2028 & "'
    text = single.single_page({"recording": {"evil": evil}})
    assert text.count("</script>") == 2  # of the data, and of the script
    data = text.partition('id="boot">')[2].partition("</script>")[0]
    assert json.loads(data)["recording"]["evil"] == evil


def test_the_file_loads_nothing() -> None:
    text = single.single_page({"words": assets.words()})
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", text.partition('id="boot"')[0]) == []
    assert "connect-src" not in single.POLICY and "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text.partition("</style>")[0])


def test_no_script_or_style_comes_from_elsewhere() -> None:
    own = {**SCRIPTS, **{file.name: file.read_text("utf-8") for file in (assets.STATIC / "css").glob("*.css")}}
    found = {name: re.findall(r"https?://(?!www\.w3\.org/)\S+", text) for name, text in own.items()}
    assert {name: urls for name, urls in found.items() if urls} == {}


def test_nothing_is_put_into_the_page_as_markup() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert {name for name, text in SCRIPTS.items() if re.search(forbidden, text)} == set()


def test_a_module_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "js").mkdir()
    (tmp_path / "js/main.js").write_text('import thing from "elsewhere";\n')
    monkeypatch.setattr(single, "STATIC", tmp_path)
    with pytest.raises(LabError, match=r"main\.js imports or exports in a form"):
        single.bundle()


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_text_of_the_page_is_there_in_english(name: str) -> None:
    keys = re.findall(r"""\bt\("([a-z]+)\.([\w.]+)\"""", SCRIPTS[name])
    assert [f"{group}.{key}" for group, key in keys if key not in ENGLISH.get(group, {})] == []


def test_other_languages_say_nothing_that_english_does_not() -> None:
    def unknown(own: dict[str, object], english: dict[str, object], path: str) -> list[str]:
        found = []
        for key, value in own.items():
            if key not in english:
                found.append(f"{path}{key}")
            elif isinstance(value, dict) and isinstance(english[key], dict):
                found += unknown(value, english[key], f"{path}{key}.")  # type: ignore[arg-type]
            elif isinstance(value, str):
                names = set(re.findall(r"\{(\w+)\}", value)) - set(re.findall(r"\{(\w+)\}", str(english[key])))
                found += [f"{path}{key} {{{name}}}" for name in names]
        return found

    for code, words in assets.words().items():
        assert unknown(words.get("page", {}), ENGLISH, f"page.{code}: ") == []
        assert unknown(words.get("walk", {}), assets.words()["en"]["walk"], f"{code}: ") == []


def test_german_says_all_that_english_does() -> None:
    english, german = assets.words()["en"], assets.words()["de"]
    assert set(english["walk"]) == set(german["walk"])
    for group, words in english["page"].items():
        own = german["page"].get(group, {} if isinstance(words, dict) else None)
        assert own is not None, group
        assert not isinstance(words, dict) or set(words) == set(own), group


@pytest.mark.parametrize(("text", "why"), [("{", "is no JSON: "), ("[]", "holds no JSON object")])
def test_a_broken_language_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "page.fr.json").write_text(text)
    with pytest.raises(LabError, match=rf"page\.fr\.json {why}"):
        assets.words(tmp_path)


def test_a_teacher_adds_a_language_by_adding_a_file(tmp_path: Path) -> None:
    (tmp_path / "page.fr.json").write_text('{"name": "Français"}')
    (tmp_path / "notes.txt").write_text("no language")
    assert assets.words(tmp_path) == {"fr": {"page": {"name": "Français"}}}


def test_a_folder_has_all_that_it_names(tmp_path: Path) -> None:
    export.write_folder(tmp_path / "made", export.read_recording(RECORDING), None)
    made = {file.relative_to(tmp_path / "made").as_posix() for file in (tmp_path / "made").rglob("*") if file.is_file()}
    assert made == {"index.html", "engine/engine-worker.js", "engine/udplane.zip"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"cannot write .*file"):
        export.write_folder(tmp_path / "file", None, None)
