"""The official JavaScript SDK in a browser: both builds, deltas, compression, and recovery after a cut."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.sdk.test_delta import table
from tests.sdk.test_examples import Quiet
from tests.support.gateway import Gateway, serving
from tests.support.proxy import cable
from tests.support.requirements import BROWSER_ARGUMENTS, SDK_TESTS, require_browser, require_javascript_sdk

pytestmark = [pytest.mark.browser, pytest.mark.node]
PATIENCE_MS = 20_000
SCRIPT = """
window.heard = [];
window.said = [];
window.start = (url, token, channel) => {
  const read = (data) => (data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data);
  const client = new Centrifuge(url, { token, minReconnectDelay: 50, maxReconnectDelay: 300 });
  client.on("connecting", () => said.push("connecting"));
  window.subscription = client.newSubscription(channel, { delta: "fossil", minResubscribeDelay: 50 });
  subscription.on("subscribed", (context) => said.push(context.recovered ? "recovered" : "subscribed"));
  subscription.on("publication", (context) => heard.push(read(context.data)));
  subscription.subscribe();
  client.connect();
};
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    rules = {"delta": True, "history_size": 500, "history_ttl_s": 60, "recover": True}
    config: dict[str, Any] = {"delivery": {"unsubscribe_delay_s": 0.2}, "namespaces": {"default": {}, "kept": rules}}
    with serving(config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a site with a page for each build of the SDK."""
    require_javascript_sdk()
    folder = tmp_path_factory.mktemp("site")
    for build in ("centrifuge.js", "centrifuge.protobuf.js"):
        (folder / build).write_bytes((SDK_TESTS / "node_modules/centrifuge/dist" / build).read_bytes())
        page = f'<!doctype html><title>test</title><script src="{build}"></script><script>{SCRIPT}</script>'
        (folder / f"{Path(build).stem}.html").write_text(page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()


def heard(page: Page, count: int) -> list[Any]:
    page.wait_for_function(f"heard.length >= {count}", timeout=PATIENCE_MS)
    found: list[Any] = page.evaluate("heard")
    return found


@pytest.mark.parametrize("build", ["centrifuge", "centrifuge.protobuf"])
def test_a_page_reads_changes_and_recovers_what_it_missed(
    gateway: Gateway, browser: Browser, pages: str, build: str
) -> None:
    channel = f"kept:{build}"
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    with cable(gateway.public_port) as wire:
        page.goto(f"{pages}/{build}.html")
        url = f"ws://127.0.0.1:{wire.port}/connection/websocket"
        page.evaluate("([url, token, channel]) => start(url, token, channel)", [url, gateway.token("ada"), channel])
        page.wait_for_function("said.includes('subscribed')", timeout=PATIENCE_MS)
        assert gateway.metric("gateway_compressed_connections") == 1
        for number in range(5):
            gateway.publish_logged(channel, table(number))
        heard(page, 5)
        wire.cut()
        page.wait_for_function("said.filter((each) => each === 'connecting').length >= 2", timeout=PATIENCE_MS)
        for number in range(5, 10):
            gateway.publish_logged(channel, table(number))
        wire.mend()
        page.wait_for_function("said.includes('recovered')", timeout=PATIENCE_MS)
        for number in range(10, 15):
            gateway.publish_logged(channel, table(number))
        assert heard(page, 15) == [table(number) for number in range(15)]
        stats = page.evaluate("subscription.deltaStats()")
        assert stats["numDeltaPayloads"] >= 8
        assert stats["numPublications"] == 15
    page.close()
    assert problems == []
    assert gateway.metric("gateway_compressed_messages_total") > 0
