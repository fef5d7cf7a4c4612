"""A real gateway with its demo page, and a real browser. Both start once for each file of this folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from gateway.processes import child_environment
from loadtest.bench.processes import descendants
from tests.support.processes import those
from tests.support.requirements import BROWSER_ARGUMENTS, require_browser

API_KEY = "demo-test-key-0123456789"
DESK = (1280, 800)
PHONE = (390, 844)
PATIENCE_MS = 25_000
"""For a busy machine; it passes only when something is broken."""

RECORD_STATES = """
window.states = [];
addEventListener("DOMContentLoaded", () => {
  const words = document.getElementById("connection-text");
  const note = () => window.states.push(`${document.body.dataset.state}: ${words.textContent}`);
  const watched = { subtree: true, childList: true, attributeFilter: ["data-state"] };
  new MutationObserver(note).observe(document.body, watched);
});
"""


class Demo(NamedTuple):
    """A running `nexus-gateway demo`."""

    process: subprocess.Popen[str]
    control: str
    public_port: int

    @property
    def page(self) -> str:
        return f"{self.control}/demo"

    def edge_workers(self) -> list[psutil.Process]:
        return those(descendants(self.process.pid), lambda each: "gateway.workers.edge" in each.cmdline())

    def publish(self, channel: str, data: str) -> str:
        """Publish from a shell; what the command says."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "publish", "--port", str(self.public_port), channel, data],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    require_browser()  # before anything is started
    log = tmp_path_factory.mktemp("demo") / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "demo", "--port", "0", "--control-port", "0", "--workers", "2"],
            env=child_environment() | {"GATEWAY_CONTROL__API_KEYS": f'["{API_KEY}"]'},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout:
        try:
            banner = "".join(_until(process.stdout, "Three lines to try"))
            page = re.search(r"(http://\S+)/demo\b", banner)
            public = re.search(r"ws://\S+:(\d+)/connection/websocket", banner)
            if not page or not public:
                pytest.fail(f"the demo did not come up:\n{banner}\n{log.read_text()}")
            yield Demo(process, page[1], int(public[1]))
        finally:
            process.terminate()
            status = process.wait(20)
    assert status == 0, log.read_text()


def _until(lines: Iterator[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if last in line:
            return


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_browser()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()


OpenTab = Callable[..., Page]


@pytest.fixture
def open_tab(browser: Browser, demo: Demo) -> Iterator[OpenTab]:
    """Open the page as a visitor of its own: `open_tab("Ada")` joins, `open_tab()` stays at the door. `path`: of
    another page of the demo.

    Any error that the page did not expect fails the test: exceptions, and violations of its security policy.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def listen(page: Page) -> None:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda entry: _note(problems, entry.type, entry.text))

    def open_tab(
        name: str = "", room: str = "lobby", *, path: str = "", size: tuple[int, int] = DESK, scheme: str = "light"
    ) -> Page:
        phone = size[0] < 600
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2 if phone else 1,
            is_mobile=phone,
            has_touch=phone,
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("page", listen)
        page = context.new_page()
        page.add_init_script(RECORD_STATES)
        page.goto(demo.page + path)
        if name:
            page.get_by_label("Your name").fill(name)
            page.get_by_label("Room", exact=True).fill(room)
            page.get_by_role("button", name="Join", exact=True).click()
            page.get_by_text("You joined the room").wait_for()
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not problems


def _note(problems: list[str], kind: str, text: str) -> None:
    # Refused WebSockets and questions are what some of these tests are about; the browser logs each as an error.
    if kind == "error" and "WebSocket connection to" not in text and "status of 429" not in text:
        problems.append(text)


@pytest.fixture(scope="module")
def artifacts() -> Path:
    """Where pictures are kept for people to look at. Not under version control."""
    folder = Path(__file__).parents[2] / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
