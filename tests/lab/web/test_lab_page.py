"""The page of a standing lab in a real browser: counters, captures, a terminal, a walk, and its engines opened."""

from collections.abc import Iterator

import pytest

from dataplane.lab.web import export
from tests.lab.labs import Labs, labs
from tests.lab.web.conftest import Driver, complaints, faults, open_anew, press, until

PATIENCE = 30
"""Seconds for a walk, or for Python to start in the browser, on a busy machine."""


@pytest.fixture(scope="module")
def standing(tun_device: None) -> Iterator[tuple[Labs, str]]:
    """A lab, and the address of its page."""
    with labs() as own:
        own.up("--step")
        page = own.start("web", "--no-open")
        try:
            assert page.stdout is not None
            page.stdout.readline()
            yield own, page.stdout.readline().strip()
        finally:
            page.terminate()
            page.communicate()


@pytest.fixture
def page(browser: Driver, standing: tuple[Labs, str]) -> Iterator[Driver]:
    open_anew(browser, standing[1])
    until(browser, "document.querySelector('#nodes table')", "the counters to be there")
    yield browser
    assert complaints(browser) == []


def view(driver: Driver, name: str) -> None:
    driver.find_element("css selector", f"#views [data-id={name}]").click()
    driver.execute_script("document.activeElement.blur()")


def test_the_token_leaves_the_address(page: Driver) -> None:
    assert "token" not in page.current_url


def test_every_device_is_drawn(page: Driver) -> None:
    drawn = set(page.execute_script("return [...document.querySelectorAll('.station')].map((one) => one.dataset.key)"))
    node = {"bridge/cni0", "route/", "netfilter/", "tunnel/udplane0", "engine/", "udp/", "underlay/eth0"}
    expected = {f"{name}/{place}" for name in ("node1", "node2") for place in node}
    expected |= {f"pod{n}/{place}" for n in range(1, 5) for place in ("socket/", "route/", "eth0/eth0")}
    expected |= {"node1/veth/veth-pod1", "underlay/wire/node1", "underlay/wire/node2", "underlay/wire/br0"}
    assert expected - drawn == set()


def test_a_click_captures_and_counters_move(page: Driver, standing: tuple[Labs, str]) -> None:
    view(page, "lab")
    wire = "document.querySelector('[data-link=\"underlay/node1\"]')"
    page.execute_script(f"{wire}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    until(page, "document.querySelector('.captures')", "the capture to begin")
    standing[0].run("exec", "pod1", "ping", "-c", "1", "pod3")
    until(
        page, "document.querySelector('.packets summary .facts')?.textContent.includes('echo')", "the ping to be seen"
    )
    page.find_element("css selector", ".packets summary").click()
    until(page, "document.querySelector('.packets details[open] .cell')", "its bytes")
    until(page, "document.querySelector('.pill')", "the wire to be marked")
    page.find_element("id", "since").click()
    page.execute_script(f"{wire}.focus()")
    press(page, "\n")
    until(page, "!document.querySelector('.captures')", "the capture to end by the same wire")


def test_a_terminal_by_key(page: Driver) -> None:
    press(page, "t")
    until(
        page,
        "document.querySelector('.xterm-helper-textarea') === document.activeElement",
        "a terminal to have the focus",
    )
    press(page, "echo $((6*7))-$(ip -br addr show eth0 | wc -l)\n")
    until(page, "document.querySelector('.xterm-rows').textContent.includes('42-1')", "the shell to answer")
    page.find_element("css selector", ".drawerhead button[aria-label]").click()
    assert not page.find_element("id", "drawer").is_displayed()


def follow(driver: Driver) -> None:
    """Walk from the first pod to the one that is offered."""
    view(driver, "lab")
    driver.find_element("css selector", ".walkform button").click()
    until(driver, "document.body.dataset.view === 'walk'", "the walk to be shown", PATIENCE)


def test_a_packet_is_followed(page: Driver) -> None:
    follow(page)
    assert page.execute_script("return document.querySelectorAll('#ticks span').length") > 30
    page.find_element("css selector", "[data-go=next]").click()
    page.find_element("css selector", ".term .run").click()
    until(
        page,
        "document.querySelector('#terminals .xterminal:not([hidden]) .xterm-rows')?.textContent.length",
        "it to be typed",
    )
    press(page, "")
    page.find_element("css selector", ".drawerhead button[aria-label]").click()


def mode(driver: Driver, name: str) -> None:
    view(driver, "engines")
    driver.find_element("css selector", f"#modes [data-id={name}]").click()


def test_one_packet_goes_through_three_engines(page: Driver) -> None:
    mode(page, "compare")
    until(page, "document.querySelector('#hex')?.value", "a packet to be offered", PATIENCE)
    page.find_element("id", "comparesend").click()
    until(page, "document.querySelectorAll('.sidebyside .same').length === 8", "all rows to be equal", PATIENCE)
    assert not page.find_elements("css selector", ".sidebyside .odd")
    head = page.find_element("css selector", ".sidebyside thead").text
    assert "python" in head
    choose = "const one = document.getElementById('sample'); one.value = arguments[0];"
    page.execute_script(choose + "one.dispatchEvent(new Event('change'))", "stranger")
    page.find_element("id", "comparesend").click()
    until(page, "document.getElementById('rows').textContent.includes('UNKNOWN_SENDER')", "the stranger", PATIENCE)
    assert page.find_element("id", "sender").get_attribute("value") == "192.0.2.1"
    hex_field = page.find_element("id", "hex")
    hex_field.clear()
    hex_field.send_keys("xyz")
    page.find_element("id", "comparesend").click()
    until(page, "document.getElementById('help').open", "what is no packet to be told")
    assert "hex digits" in page.find_element("id", "help").text
    page.find_element("css selector", "#help button").click()


def test_a_packet_of_a_walk_goes_through_three_engines(page: Driver) -> None:
    follow(page)
    page.execute_script("document.activeElement.blur()")
    press(page, "5")
    page.find_element("css selector", ".allthree").click()
    until(page, "document.querySelector('.sidebyside')", "the table", PATIENCE)
    assert "FORWARDED" in page.find_element("id", "rows").text
    assert not page.find_elements("css selector", ".sidebyside .odd")


def test_a_ping_by_each_backend(page: Driver) -> None:
    mode(page, "backends")
    page.find_element("id", "backendsend").click()
    until(page, "document.querySelector('#enginesbody .stack')", "the frame", PATIENCE)
    assert "28 of them" in page.find_element("id", "enginesbody").text


def test_an_engine_is_stepped_through_by_keys(page: Driver, standing: tuple[Labs, str]) -> None:
    mode(page, "step")
    page.find_element("id", "step-connect").click()
    until(page, "document.getElementById('stepstatus').textContent.includes('next packet')", "the node to be told")
    ping = standing[0].start("exec", "pod1", "ping", "-c", "1", "-W", "60", "pod3")
    try:
        until(page, "document.querySelectorAll('#stepsofar li').length === 1", "the first step", PATIENCE)
        for number in range(2, 8):
            page.execute_script("document.activeElement.blur()")
            press(page, "\n")
            until(page, f"document.querySelectorAll('#stepsofar li').length === {number}", "the next step", PATIENCE)
        assert "peer" in page.find_element("id", "stepvariables").text
        assert page.find_elements("css selector", "#stepbytes .cell")
        assert faults(page) == []
        page.execute_script("document.activeElement.blur()")
        press(page, "q")
        assert ping.wait(PATIENCE) == 0
    finally:
        ping.kill()
        ping.communicate()


def test_an_engine_is_judged(page: Driver) -> None:
    view(page, "engine")
    if export.pyodide_directory(None) is None:
        assert "./dev lab --browser" in page.find_element("id", "enginestatus").text
        pytest.skip("needs Python for browsers: ./dev lab --browser")
    page.find_element("id", "engine-judge").click()
    until(page, "document.querySelector('.golden .failed')", "the golden packets to judge", PATIENCE)
    assert page.find_element("id", "wrong").text
