"""The offline page in a real browser: every control by keyboard and by mouse, with the network switched off."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.web import export
from tests.lab.web.conftest import RECORDING, Driver, complaints, faults, open_anew, press, until

WALKS = export.read_recording(RECORDING)["walks"]
SIZES = ((1366, 768), (1920, 1080))
LOOKS = ("light", "dark", "projector")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recording as a file."""
    file = tmp_path_factory.mktemp("page") / "walk ü.html"
    export.write_page(file, export.read_recording(RECORDING))
    return file.as_uri()


@pytest.fixture
def page(browser: Driver, address: str) -> Iterator[Driver]:
    """That file, opened from disk by a browser without a network."""
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    open_anew(browser, address)
    until(browser, "document.querySelector('#say h2')?.textContent", "the page to show a step")
    yield browser
    assert complaints(browser) == []


def step(driver: Driver) -> int:
    return int(driver.execute_script("return document.getElementById('slider').value"))


def away(driver: Driver) -> None:
    """Nothing has the focus."""
    driver.execute_script("document.activeElement.blur()")


def choose(driver: Driver, walk: str) -> None:
    driver.execute_script("location.hash = ''")
    driver.find_element("css selector", f"#walks [data-id={walk}]").click()
    away(driver)


def test_keys_lead_through_a_walk(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    choose(page, "ping6")
    last = len(WALKS[0]["steps"])
    way = [
        (Keys.ARROW_RIGHT, 2),
        (Keys.ARROW_LEFT, 1),
        (Keys.END, last),
        (Keys.HOME, 1),
        (Keys.PAGE_DOWN, 2),
        (Keys.HOME, 1),
    ]
    for key, expected in way:
        press(page, key)
        assert step(page) == expected
    for station, place in (("2", "bridge"), ("5", "engine"), ("7", "engine"), ("9", "socket")):
        press(page, station)
        assert WALKS[0]["steps"][step(page) - 1]["at"]["place"] == place
    press(page, "5", "q")
    assert page.execute_script("return document.querySelector('.ask').open")
    press(page, "w")
    assert page.execute_script("return document.querySelector('#walks [aria-checked=true]').dataset.id") == "ttl"
    press(page, " ")
    until(page, "document.getElementById('slider').value > 1", "the walk to play")
    press(page, " ")
    press(page, "?")
    assert page.execute_script("return document.getElementById('help').open")
    press(page, Keys.ESCAPE)
    press(page, "d", "d", "d")


def test_the_mouse_does_the_same(page: Driver) -> None:
    choose(page, "ttl")
    last = len(WALKS[1]["steps"])
    for name, expected in (("next", 2), ("prev", 1), ("last", last), ("first", 1)):
        page.find_element("css selector", f"[data-go={name}]").click()
        assert step(page) == expected
    page.execute_script("document.querySelectorAll('#ticks span')[8].click()")
    assert step(page) == 9
    page.find_element("css selector", "[data-key='node1/bridge/cni0']").click()
    assert WALKS[1]["steps"][step(page) - 1]["at"]["place"] == "bridge"
    page.find_element("id", "play").click()
    page.find_element("id", "play").click()
    for look in ("dark", "projector", "light"):
        page.find_element("css selector", f"#looks [data-id={look}]").click()
        assert page.execute_script("return document.documentElement.dataset.look") == look
    page.find_element("id", "helpbutton").click()
    page.find_element("css selector", "#help button").click()
    cell = page.find_elements("css selector", ".cell")[3]
    cell.click()
    assert "chosen" in cell.get_attribute("class")


def test_arrows_go_from_field_to_field(page: Driver) -> None:
    from selenium.webdriver.common.keys import Keys

    choose(page, "ping6")
    first = page.find_element("css selector", ".cell[tabindex='0']")
    page.execute_script("arguments[0].focus()", first)
    before = step(page)
    press(page, Keys.HOME)
    press(page, Keys.ARROW_RIGHT)
    press(page, Keys.ARROW_DOWN)
    assert page.switch_to.active_element.get_attribute("aria-label")
    assert step(page) == before
    press(page, Keys.ESCAPE)
    assert page.switch_to.active_element.get_attribute("id") == "slider"


def test_the_page_shows_what_was_recorded(page: Driver) -> None:
    for walk in WALKS:
        choose(page, walk["id"])
        for number, recorded in enumerate(walk["steps"], 1):
            shown = look_at(page, number)
            assert shown["place"].startswith(recorded["at"]["where"])
            assert shown["bytes"] == f"{recorded['packet']['len']:,} bytes"
            assert shown["title"] and "." not in shown["title"].split()[0], recorded["say"]
            assert shown["wrong"] == [], f"step {number} of {walk['id']}"
            seen = recorded["packet"]["hex"]
            assert seen.startswith(shown["hex"][:400]) or len(shown["hex"]) < 2


def look_at(driver: Driver, number: int) -> dict[str, Any]:
    """Go to a step by the slider; what the page says there."""
    script = """
        const slider = document.getElementById('slider');
        slider.value = arguments[0];
        slider.dispatchEvent(new Event('input'));
        const text = (selector) => document.querySelector(selector)?.textContent ?? '';
        const cells = [...document.querySelectorAll('.cell u')].map((cell) => cell.textContent.replace(/[ …]/g, ''));
        const whole = [...document.querySelectorAll('.cell u')].findIndex((cell) => cell.textContent.includes('…'));
        return {
          place: text('#say .crumb b'), title: text('#say h2'), bytes: text('#packet h3 b'),
          hex: cells.slice(0, whole < 0 ? cells.length : whole).join(''),
          wrong: [...document.querySelectorAll('.wrong')].map((one) => one.textContent),
        };
    """
    found: dict[str, Any] = driver.execute_script(script, number)
    return found


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_no_step_needs_scrolling(page: Driver, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    overflow = """
        const slider = document.getElementById('slider'), found = [];
        for (let number = 1; number <= slider.max; number++) {
          slider.value = number;
          slider.dispatchEvent(new Event('input'));
          const boxes = [document.documentElement, ...document.querySelectorAll('.panel')];
          found.push(...boxes.filter((box) => box.scrollHeight > box.clientHeight + 1).map((box) => [number, box.id]));
        }
        return found;
    """
    for look in LOOKS:
        page.find_element("css selector", f"#looks [data-id={look}]").click()
        for walk in WALKS:
            choose(page, walk["id"])
            assert page.execute_script(overflow) == [], f"{look}, {walk['id']}"
            assert faults(page) == [], f"{look}, {walk['id']}"


def test_a_walk_of_many_steps_and_legs(page: Driver, tmp_path: Path) -> None:
    recording = export.read_recording(RECORDING.with_name("fragments.json"))
    walk = recording["walks"][0]
    legs = list(dict.fromkeys(step["leg"] for step in walk["steps"]))
    firsts = {leg: next(n for n, one in enumerate(walk["steps"], 1) if one["leg"] == leg) for leg in legs}
    walk["steps"] *= 8
    export.write_page(tmp_path / "long.html", recording)
    page.get((tmp_path / "long.html").as_uri())
    until(page, "document.querySelector('#say h2')?.textContent", "the page to show a step")
    shown = page.execute_script("""
        const boxes = [...document.querySelectorAll('#ticks i')].map((one) => one.getBoundingClientRect());
        const ticks = document.getElementById('ticks'), end = ticks.lastChild.getBoundingClientRect().right;
        return {
          over: boxes.filter((box, i) => i && box.left < boxes[i - 1].right - 1).length,
          inside: end <= ticks.getBoundingClientRect().right + 1, bars: ticks.childElementCount,
        };
    """)
    assert shown == {"over": 0, "inside": True, "bars": len(walk["steps"])}
    assert page.execute_script("return [...document.getElementById('leg').options].map((one) => one.value)") == legs
    for leg, first in firsts.items():
        page.execute_script("const one = document.getElementById('leg'); one.value = arguments[0]; one.onchange()", leg)
        assert step(page) == first
    names = page.execute_script("return [...document.getElementById('leg').options].map((one) => one.textContent)")
    assert names[2:] == ["fragment", "fragment 2", "fragment 3", "fragment 4"]


def test_a_wrong_checksum_is_seen(page: Driver, tmp_path: Path) -> None:
    recording = export.read_recording(RECORDING)
    walk = next(walk for walk in recording["walks"] if walk["id"] == "ttl")
    number = next(n for n, step in enumerate(walk["steps"]) if step["at"]["place"] == "route" and n > 2)
    packet = walk["steps"][number]["packet"]
    packet["hex"] = packet["hex"][:20] + "beef" + packet["hex"][24:]
    export.write_page(tmp_path / "wrong.html", recording)
    page.get((tmp_path / "wrong.html").as_uri() + f"#walk=ttl&step={number + 1}")
    until(page, "document.querySelector('.math .wrong')?.textContent", "the wrong checksum to be told")


def test_a_file_that_is_no_recording_is_told(page: Driver, tmp_path: Path) -> None:
    for text, why in (
        ("{", "JSON"),
        ('{"format": "other"}', '"format" must be'),
        ('{"format": "udplane-walk", "version": 1}', "no walk"),
    ):
        (tmp_path / "bad.json").write_text(text)
        page.find_element("id", "file").send_keys(str(tmp_path / "bad.json"))
        until(
            page,
            f"document.getElementById('help').open && document.getElementById('help').textContent.includes({why!r})",
            why,
        )
        page.find_element("css selector", "#help button").click()
        page.execute_script("document.getElementById('file').value = ''")


def test_print_has_every_step(page: Driver) -> None:
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    shown = page.execute_script("return document.querySelectorAll('#handout li').length")
    assert shown in {len(walk["steps"]) for walk in WALKS}
