"""A server of the page in a thread of its own, and a browser to look at it."""

import contextlib
import http.client
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from dataplane.lab.web import server
from dataplane.lab.web.app import Page
from dataplane.lab.web.guard import Guard
from tests.waiting import wait_until

RECORDING = Path(__file__).with_name("walks.json")


@dataclass(slots=True)
class Served:
    """A page that is served."""

    port: int
    token: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/?token={self.token}"

    def ask(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of an answer. Headers with an underscore for a dash; `host` in place of ours."""
        sent = {"host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def known(self, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """The same, as the page itself asks: with its cookie and its origin."""
        cookie = f"udplane_lab_{self.port}={self.token}"
        asked = self.ask(method, target, body, cookie=cookie, origin=f"http://{self.host}", **headers)
        return asked[0], asked[2]


@contextlib.contextmanager
def serving(page: Page) -> Iterator[Served]:
    """Serve a page for the length of a `with` block."""
    listener, token = server.listen(0), server.new_token()
    port = listener.getsockname()[1]
    running = uvicorn.Server(server.config(Guard(page.app(), server.door(port, token))))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: running.started, "the server to start")
        yield Served(port, token)
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A page without a lab."""
    with serving(Page(None)) as found:
        yield found


Driver = Any
"""selenium brings no types that say more."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Chromium without a window, 1366x768."""
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if not all(programs):
        pytest.skip("needs chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    home = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    # In private namespaces everybody is root, and there Chromium's own sandbox does not start.
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--force-prefers-reduced-motion",
    ]
    for flag in [*flags, "--lang=en", f"--user-data-dir={home}", "--window-size=1366,768"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    try:
        driver = webdriver.Chrome(options=options, service=Service(str(programs[1]), env=environment))
    except Exception as error:  # noqa: BLE001  # selenium's own kinds of errors say no more than their text
        pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
    try:
        metrics = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield driver
    finally:
        driver.quit()


def open_anew(driver: Driver, address: str) -> None:
    """Open a page as if for the first time, at 1366x768: nothing is left of what a test before has chosen."""
    metrics = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(address)
    driver.execute_script("localStorage.clear(); sessionStorage.clear()")
    driver.get("about:blank")
    driver.get(address)


def press(driver: Driver, *keys: str) -> None:
    """Press keys, wherever the focus is; it may be nowhere."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def complaints(driver: Driver) -> list[str]:
    """What the browser has logged as wrong since the last time."""
    return [str(entry["message"]) for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def until(driver: Driver, script: str, what: str, seconds: float = 10) -> Any:
    """What a script of the page returns, once that is true."""
    found: list[Any] = []

    def looks() -> bool:
        found[:] = [driver.execute_script(f"return {script}")]
        return bool(found[0])

    wait_until(looks, what, seconds)
    return found[0]


AUDIT = """
const bad = [];
const light = (c) => {
  const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
};
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const colour = (text) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
};
const ground = (one) => {
  if (!one) return [255, 255, 255];
  const own = colour(getComputedStyle(one).backgroundColor), share = own[3] / 255;
  return share === 1 ? own : ground(one.parentElement).map((v, i) => own[i] * share + v * (1 - share));
};
for (const one of document.querySelectorAll("body *")) {
  if (one.closest("svg, .xterm, .unseen, .skip, :disabled, #ticks") || !one.checkVisibility()) continue;
  if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  const [more, less] = [colour(getComputedStyle(one).color), ground(one)].map(light).sort((a, b) => b - a);
  if ((more + 0.05) / (less + 0.05) < 4.5) bad.push(`contrast: ${one.tagName} ${one.className} ${one.textContent}`);
}
for (const one of document.querySelectorAll("input, select, textarea, button")) {
  const said = one.labels?.[0]?.textContent || (one.tagName === "BUTTON" && one.textContent);
  const name = one.getAttribute("aria-label") || said;
  if (one.checkVisibility() && !name?.trim()) bad.push(`no name: ${one.outerHTML.slice(0, 99)}`);
}
return bad;
"""


def faults(driver: Driver) -> list[str]:
    """What is hard to read, or has no name for who cannot see it."""
    found: list[str] = driver.execute_script(AUDIT)
    return found
