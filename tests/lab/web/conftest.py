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
