"""The page for people in a real Chromium: it shows the engine's state, streams an answer, and a crash with its restart."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from drum_process import drum_server
from edge_world import READY_SEC, World
from fake_nim.run import wait_for
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

pytestmark = [pytest.mark.drum, pytest.mark.xdist_group("browser")]

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1000,1200")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (BROWSER and DRIVER):
        missing = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """What a person sees."""

    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        browser.get(url)

    def text(self, name: str) -> str:
        return str(self._browser.find_element(By.ID, name).text)

    def wait(self, there: Callable[[], bool]) -> None:
        def look() -> bool:
            try:
                return there()
            except StaleElementReferenceException:
                return False

        wait_for(look, READY_SEC)

    def ask(self, prompt: str) -> None:
        box = self._browser.find_element(By.ID, "prompt")
        box.clear()
        box.send_keys(prompt)
        self._browser.find_element(By.ID, "send").click()

    def complaints(self) -> list[str]:
        """What the browser has to say of scripts, addresses and the content security policy."""
        return [
            entry["message"] for entry in self._browser.get_log("browser") if "page/state.json" not in entry["message"]
        ]


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_the_page(world: World, browser: Any, prefix: str) -> None:
    """Loads, streams, counts rows, shows a crash with its cause and the restart; without a complaint of the browser."""
    world.environ |= {"NIMDRUM_PAGE": "1", "URL_PREFIX": prefix}
    loaded = world.folder / "loaded"
    loaded.touch()
    world.fake(seconds_per_token=0.02, load_until=str(loaded))
    with drum_server(world, worker_class="gevent", max_watchdog_backoff_sec=1) as drum:
        drum.url += prefix
        drum.wait_health(200)
        page = Page(browser, drum.url)
        page.wait(lambda: page.text("phase") == "RUNNING")
        page.ask("hello there")
        page.wait(lambda: "first words after" in page.text("told"))
        assert "hello there" in page.text("answer")
        csv = "promptText\n" + "hello\n" * 20 + '""\n'
        assert requests.post(f"{drum.url}/predict/", data=csv, timeout=READY_SEC).status_code == 200
        page.wait(lambda: "answered 20" in page.text("errors"))
        assert "empty_prompt 1" in page.text("errors")
        if shot := os.environ.get("NIMDRUM_SCREENSHOT"):
            end = time.monotonic() + 30
            while time.monotonic() < end:  # something to look at
                requests.post(f"{drum.url}/predict/", data="promptText\n" + "hello there\n" * 800, timeout=READY_SEC)
            browser.save_screenshot(shot)
        loaded.unlink()
        os.kill(world.starts()[-1]["pid"], 9)
        page.wait(lambda: page.text("phase") == "STARTING")
        assert "ended" in page.text("cause") or "killed" in page.text("cause")
        loaded.touch()
        page.wait(lambda: page.text("phase") == "RUNNING")
        assert "1 restarts" in page.text("since")
        assert page.complaints() == []


def test_routes_as_a_page(world: World, browser: Any) -> None:
    """/docs lists what openapi.json says, and what it lists is there."""
    world.environ["NIMDRUM_PAGE"] = "1"
    world.fake()
    with drum_server(world) as drum:
        drum.wait_health(200)
        document = requests.get(f"{drum.url}/openapi.json", timeout=READY_SEC).json()
        page = Page(browser, f"{drum.url}/docs")
        page.wait(lambda: all(path in page.text("routes") for path in document["paths"]))
        assert page.complaints() == []
        reads = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
        for path in reads:
            assert requests.get(drum.url + path, timeout=READY_SEC).status_code == 200, path


def test_without_the_switch(world: World) -> None:
    """A browser gets DRUM's health, as any other caller does, and no page."""
    world.fake()
    with drum_server(world) as drum:
        drum.wait_health(200)
        assert requests.get(drum.url, headers={"Accept": "text/html"}, timeout=READY_SEC).json()["message"] == "OK"
        for path in ("/page/state.json", "/page/app.js", "/docs"):
            assert requests.get(drum.url + path, timeout=READY_SEC).status_code == 404, path
