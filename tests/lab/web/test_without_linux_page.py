"""The page without a lab in a real browser, from any web server: exercises judged there, an engine written there."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.teaching.exercise import packaged
from dataplane.lab.web import export
from tests.lab.web.conftest import Driver, complaints, faults, until

PATIENCE = 90
"""Seconds for Python to start in the browser, on a busy machine."""
LOOKS = ("dark", "projector", "light")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(browser: Driver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The folder, served by the web server that Python brings."""
    folder = tmp_path_factory.mktemp("folder")
    export.write_folder(folder, None, export.pyodide_directory(None))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            browser.get(f"http://127.0.0.1:{server.server_address[1]}/")
            until(browser, "document.querySelector('#goal .exercises')", "the exercises to be listed")
            yield browser
            assert complaints(browser) == []
        finally:
            server.shutdown()
            thread.join()


def choose(driver: Driver, number: int) -> None:
    driver.find_element("css selector", "#views [data-id=exercises]").click()
    script = "const one = document.getElementById('exercise'); one.value = arguments[0]; one.onchange?.();"
    driver.execute_script(script + "one.dispatchEvent(new Event('change'))", str(number))


def answer(driver: Driver, **answers: str) -> None:
    """Fill in the fields, and press Enter in the last one."""
    for name, text in answers.items():
        driver.find_element("css selector", f"#checks input[name={name}]").clear()
        driver.find_element("css selector", f"#checks input[name={name}]").send_keys(text)
    driver.find_element("css selector", f"#checks input[name={name}]").send_keys("\n")


def findings(driver: Driver) -> str:
    return str(driver.find_element("id", "checks").text)


def test_answers_are_judged(page: Driver) -> None:
    choose(page, 4)
    answer(page, begin="34", first="")
    until(page, "document.querySelectorAll('#checks .no').length === 2", "both answers to be wrong")
    assert "There is the UDP header." in findings(page) and "No answer yet." in findings(page)
    answer(page, begin="42", first=" 0X45")
    until(page, "document.getElementById('nextstep')", "the step to be solved")
    for look in LOOKS:
        page.find_element("css selector", f"#looks [data-id={look}]").click()
        assert faults(page) == [], look
    page.find_element("id", "nextstep").click()
    assert page.find_elements("css selector", "#checks input[name=outer_at]")


def test_hints_open_in_order(page: Driver) -> None:
    choose(page, 9)
    drawers = page.find_elements("css selector", "#hints details")
    drawers[2].find_element("css selector", "summary").click()
    assert not drawers[2].get_attribute("open")
    for drawer in drawers:
        drawer.find_element("css selector", "summary").click()
        until(page, f"document.querySelectorAll('#hints details[open]').length >= {drawers.index(drawer) + 1}", "it")
    assert "192.168.0.201" in drawers[2].text


def test_its_walk_opens(page: Driver) -> None:
    choose(page, 9)
    page.find_element("css selector", "#exercisebar [data-walk]").click()
    until(page, "document.body.dataset.view === 'walk'", "the walk to be shown")
    assert len(page.find_elements("css selector", "#walks button")) == 2
    choose(page, 9)
    page.find_element("css selector", "#goal [data-step='3']").click()
    assert "standing lab" in findings(page)
    assert not page.find_element("id", "check").is_enabled()


def test_an_engine_is_written_and_judged(page: Driver) -> None:
    if export.pyodide_directory(None) is None:
        pytest.skip("needs Python for browsers: ./dev lab --browser")
    choose(page, 12)
    page.find_element("id", "check").click()
    until(page, "document.querySelector('#checks .no')", "the template to fail", PATIENCE)
    assert "First wrong: IPv4 UDP to peer 1." in findings(page)
    page.find_element("id", "openengine").click()
    write(page, "1.py", ".to_bytes(2)", '.to_bytes(2, "little")')
    page.find_element("id", "engine-judge").click()
    until(page, "document.querySelectorAll('.hexes b.wrong').length === 2", "the bytes to be marked", PATIENCE)
    assert "wrong order" in page.find_element("id", "wrong").text
    assert faults(page) == []
    write(page, "1.py")
    choose(page, 12)
    page.find_element("id", "check").click()
    until(page, "document.getElementById('nextstep')", "the first step to be solved", PATIENCE)


def write(driver: Driver, solution: str, old: str = "", new: str = "") -> None:
    """Put a worked solution, or a spoilt one, into the editor."""
    text = Path(packaged() / "12-your-own-engine/solution" / solution).read_text("utf-8")
    script = (
        "const one = document.getElementById('editor'); one.value = arguments[0]; one.dispatchEvent(new Event('input'))"
    )
    driver.execute_script(script, text.replace(old, new) if old else text)
