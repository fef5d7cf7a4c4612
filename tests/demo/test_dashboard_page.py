"""The dashboard as an operator uses it: a real browser, a real gateway with two workers, real clients."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.relay.schema import script
from tests.demo.conftest import DESK, PATIENCE_MS
from tests.support.gateway import API_KEY, Gateway, serving
from tests.support.requirements import require_browser
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CONFIG = {
    "server": {"workers": 2, "drain_window_s": 0.5},
    "metrics": {"slow_ms": 1},
    "namespaces": {"default": {}, "kept": {"history_size": 10, "history_ttl_s": 60}},
}
SMALL = (360, 740)
NO_WEBSOCKET = "WebSocket = class { constructor() { setTimeout(() => this.onclose({ code: 1006 })); } close() {} };"
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    require_browser()  # before anything is started
    with serving(CONFIG) as gateway:
        yield gateway


@pytest.fixture
def open_page(browser: Browser, gateway: Gateway) -> Iterator[OpenPage]:
    """Open the dashboard as a visitor of its own, logged in unless `key` is "". Unexpected errors fail the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note(entry: ConsoleMessage) -> None:
        # The browser logs answers like 401 and WebSockets that break as errors; the tests look at what the page says.
        if entry.type == "error" and not re.search("Failed to load resource|WebSocket connection to", entry.text):
            problems.append(entry.text)

    def open_page(
        key: str = API_KEY, *, size: tuple[int, int] = DESK, scheme: str = "light", url: str = "", script: str = ""
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
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", note)
        if script:
            page.add_init_script(script)
        page.goto(url or f"{gateway.control_url}/")
        if key:
            log_in(page, key)
            expect(page.locator("#connections")).to_have_text(re.compile(r"^\d+$"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def log_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


@contextlib.contextmanager
def client(gateway: Gateway, user: str, *channels: str) -> Iterator[ClientConnection]:
    """A client that has connected and subscribed, and hears nothing of what comes after that until it is asked to."""
    with connect(gateway.url, proxy=None, compression=None, open_timeout=DEADLINE_S) as socket:
        subscribes = ({"subscribe": {"channel": each}} for each in channels)
        commands = [{"connect": {"token": gateway.token(user)}}, *subscribes]
        socket.send("\n".join(json.dumps({"id": number, **each}) for number, each in enumerate(commands, 1)))
        answered: set[int] = set()
        while len(answered) < len(commands):
            for line in str(socket.recv(DEADLINE_S)).split("\n"):
                reply = json.loads(line)
                assert "error" not in reply
                answered |= {reply["id"]} if "id" in reply else set()
        yield socket


def heard(socket: ClientConnection, channel: str) -> object:
    """The data of the next publication on a channel."""
    while True:
        for line in str(socket.recv(DEADLINE_S)).split("\n"):
            push = json.loads(line).get("push", {})
            if push.get("channel") == channel and "pub" in push:
                return push["pub"]["data"]


def closed_with(socket: ClientConnection) -> int | None:
    """Wait until it is closed."""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(ConnectionClosed):
        while time.monotonic() < deadline:
            socket.recv(DEADLINE_S)
    return socket.close_code


def confirm(page: Page, button: str) -> None:
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_be_hidden()


def test_counts_change_live_over_the_gateways_own_websocket(open_page: OpenPage, gateway: Gateway) -> None:
    page = open_page()
    expect(page.locator("#live-text")).to_have_text("Live", use_inner_text=True)
    users = page.locator("#users")
    expect(users).to_have_text("1")  # the page itself
    with client(gateway, "ada", "news"), client(gateway, "grace", "news"):
        expect(users).to_have_text("3")
    expect(users).to_have_text("1")
    expect(page.locator("#chart-connections canvas")).to_be_visible()
    expect(page.locator("#chart-rates canvas")).to_be_visible()
    expect(page.locator("#latency")).to_contain_text("connect")
    expect(page.locator("#redis-text")).to_have_text("Connected")
    expect(page.locator("#workers .worker")).to_have_count(2)
    assert not page.evaluate("localStorage.length + sessionStorage.length")


def test_what_the_response_caches_of_backends_count_is_a_card_of_its_own(open_page: OpenPage, gateway: Gateway) -> None:
    page = open_page()
    expect(page.locator("#caches-card")).to_be_hidden()
    counted = {"hits_local": 5, "hits_redis": 1200, "hits_stale": 1, "misses": 402, "bytes_saved": 3_000_000}
    for counter, number in counted.items():
        gateway.redis.hset("gw:cache-stats", f"prompt_response {counter}", number)
    row = page.locator("#caches tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("prompt response75.0 %1,206")
    expect(row).to_contain_text("2.9 MiB")
    gateway.redis.delete("gw:cache-stats")
    expect(page.locator("#caches-card")).to_be_hidden()


def test_the_outbox_is_a_card_of_its_own_with_its_pool(open_page: OpenPage, tmp_path: Path) -> None:
    expect(open_page().locator("#relays-card")).to_be_hidden()  # of a gateway without one
    file = tmp_path / "app.db"
    with serving({"outbox": {"url": f"sqlite:///{file}"}}) as other, contextlib.closing(sqlite3.connect(file)) as app:
        page = open_page(url=f"{other.control_url}/")
        relay = page.locator("#relays li")
        expect(relay).to_have_count(1)
        expect(relay.locator(".state")).to_contain_text("in trouble: database: no such table: gateway_outbox")
        expect(relay).to_contain_text("nobody knows how many wait")
        app.executescript(script(sqlite=True))
        expect(relay.locator(".state")).to_have_text("relaying")
        expect(relay).to_contain_text("0 waiting · 0 published · 0 retried · 0 dead letters · SQL connections: ")
        expect(relay).to_contain_text(re.compile(r": \d in use, \d free, 0 above 4, \d waited for$"))
        rows = "INSERT INTO gateway_outbox (channel, payload, available, dead) VALUES ('news', '1', ?, ?)"
        later = time.time() + 3600
        with app:
            app.executemany(rows, [(0, None), (0, None), (later, None), (0, 1.0)])
        expect(relay).to_contain_text("1 waiting, the oldest for 0 s · 2 published · 0 retried · 1 dead letter · SQL")
        with app:
            app.execute("DELETE FROM gateway_outbox")
        expect(relay).to_contain_text("0 waiting · 2 published · 0 retried · 0 dead letters · SQL")


def test_no_client_gets_into_the_dashboards_channel(open_page: OpenPage, gateway: Gateway) -> None:
    ticket = open_page().request.post(f"{gateway.control_url}/dashboard/ticket").json()
    channel = ticket["channel"]
    with client(gateway, "ada") as ada:
        asked: list[dict[str, object]] = [
            {"subscribe": {"channel": channel}},
            {"subscribe": {"channel": channel, "token": gateway.token("ada", channel=channel)}},
            {"publish": {"channel": channel, "data": 1}},
        ]
        for index, command in enumerate(asked, 10):
            ada.send(json.dumps({"id": index, **command}))
            assert json.loads(ada.recv(DEADLINE_S))["error"]["code"] == 103


def test_without_the_websocket_the_page_asks_by_http(open_page: OpenPage, gateway: Gateway) -> None:
    page = open_page(script=NO_WEBSOCKET)
    expect(page.locator("#live-text")).to_have_text("Live by HTTP")
    users = page.locator("#users")
    expect(users).to_have_text("0")
    with client(gateway, "ada"):
        expect(users).to_have_text("1")


def test_wrong_key_is_told_in_words_and_is_kept_nowhere(open_page: OpenPage) -> None:
    page = open_page("")
    log_in(page, "not-the-key-0123456789")
    expect(page.get_by_role("alert").first).to_contain_text("This key is not accepted")
    assert page.get_by_label("API key").input_value() == ""
    assert "not-the-key" not in page.content() + page.url
    log_in(page, API_KEY)
    expect(page.locator("#app")).to_be_visible()
    page.reload()
    expect(page.locator("#connections")).to_have_text(re.compile(r"^\d+$"))
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_operator_disconnects_a_user(open_page: OpenPage, gateway: Gateway) -> None:
    page = open_page()
    with client(gateway, "mallory") as mallory, client(gateway, "grace", "news") as grace:
        page.get_by_label("User id").fill("mallory")
        page.get_by_role("button", name="Disconnect…").click()
        confirm(page, "Cancel")
        expect(page.locator("#disconnect-said")).to_be_empty()
        page.get_by_role("button", name="Disconnect…").click()
        confirm(page, "Disconnect")
        expect(page.locator("#disconnect-said")).to_have_text("2 workers told to close the connections of mallory.")
        assert closed_with(mallory) == 3503
        gateway.publish("news", "still here")
        assert heard(grace, "news") == "still here"
    assert gateway.logged("dashboard action", action="disconnect", user="mallory")[0]["who"].startswith("session ")


def test_operator_publishes_also_with_history(open_page: OpenPage, gateway: Gateway) -> None:
    page = open_page()
    with client(gateway, "ada", "news", "kept:news") as ada:
        for channel, said in (("news", "Published to news."), ("kept:news", "Published to kept:news, offset 1.")):
            page.get_by_label("Channel", exact=True).fill(channel)
            page.get_by_label("Data (JSON)").fill('{"n": 12345678901234567890}')
            page.get_by_role("button", name="Publish…").click()
            confirm(page, "Publish")
            expect(page.locator("#publish-said")).to_have_text(said)
            assert heard(ada, channel) == {"n": 12345678901234567890}
        page.get_by_label("Data (JSON)").fill("hello")
        page.get_by_role("button", name="Publish…").click()
        expect(page.locator("#publish-said")).to_contain_text("The data is not JSON")
        page.get_by_label("Channel", exact=True).fill("nowhere:news")
        page.get_by_label("Data (JSON)").fill("1")
        page.get_by_role("button", name="Publish…").click()
        confirm(page, "Publish")
        expect(page.locator("#publish-said")).to_contain_text('no namespace "nowhere"')


def test_trouble_is_said_in_words(open_page: OpenPage) -> None:
    page = open_page(script=NO_WEBSOCKET)
    expect(page.locator("#problems")).to_be_hidden()

    def in_trouble(route: Route) -> None:
        state = route.fetch().json()
        state["problems"] = ["edge-2 has not moved for 7 s"]
        state["redis"] |= {"state": "away", "connected": 0, "away_since": state["time"] - 12}
        state["memory"] |= {"used_bytes": 900, "limit_bytes": 1000, "level": 3}
        state["memory"]["level_in_words"] = "refusing new connections"
        state["workers"][1] |= {"state": "stuck", "heartbeat_age_ms": 7000}
        route.fulfill(json=state)

    page.route("**/dashboard/state", in_trouble)
    redis, worker = page.locator("#problems li").nth(0), page.locator("#problems li").nth(1)
    expect(redis).to_have_text(re.compile(r"^Redis is away since \d\d:\d\d:\d\d \(12 s\): clients stay connected"))
    expect(worker).to_have_text("edge-2 has not moved for 7 s")
    expect(page.locator("#memory-text")).to_have_text("900 B of 1000 B (90 %)")
    expect(page.locator("#memory-note")).to_contain_text("refusing new connections")
    expect(page.locator("#workers .worker").nth(1)).to_contain_text("heartbeat 7 s ago")
    page.unroute("**/dashboard/state")
    page.route("**/dashboard/state", lambda route: route.abort())
    expect(page.locator("#live-text")).to_have_text(re.compile(r"^No answer since \d\d:\d\d:\d\d$"))
    page.unroute("**/dashboard/state")
    expect(page.locator("#live-text")).to_have_text("Live by HTTP")
    expect(page.locator("#problems")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "size"), [("desk", DESK), ("phone", SMALL)])
def test_page_fits_its_screen(
    open_page: OpenPage, gateway: Gateway, artifacts: Path, device: str, size: tuple[int, int], scheme: str
) -> None:
    with client(gateway, "a-user-with-a-name-that-is-rather-long-" + "x" * 60, "news"):
        page = open_page(size=size, scheme=scheme)
        for _ in range(3):
            gateway.publish("news", "x" * 2000)
        gateway.publish_raw("news", b"\xff")
        expect(page.locator("#tallies")).to_contain_text("undecodable")
        expect(page.locator("#latency")).to_contain_text("broadcast")
        page.get_by_label("Channel", exact=True).fill("kept:a-channel-with-a-name-that-is-long-" + "x" * 60)
        expect(page.locator(".plot canvas")).to_have_count(3)
        page.screenshot(path=artifacts / f"dashboard-{device}-{scheme}.png", animations="disabled", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = page.evaluate(
            "[...document.querySelectorAll('#app button, #app input, #app .card')]"
            ".map((e) => ({ tag: e.tagName, type: e.type, ...e.getBoundingClientRect().toJSON() }))"
        )
        for box in boxes:
            assert box["left"] >= 0, box
            assert box["right"] <= size[0], box
            assert box["tag"] != "BUTTON" or not box["width"] or box["height"] >= 36, box
        page.get_by_role("button", name="Drain edge-1").click()
        expect(page.get_by_role("dialog")).to_contain_text("The other workers take new clients meanwhile")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_operator_drains_a_worker_and_another_takes_its_place(open_page: OpenPage, gateway: Gateway) -> None:
    gateway.allowed_errors.add("worker ended")
    page = open_page()
    before = gateway.pid("edge-2")
    page.get_by_role("button", name="Drain edge-2").click()
    confirm(page, "Drain")
    expect(page.locator("#action-said")).to_contain_text("edge-2 drains")
    worker = page.locator("#workers .worker").nth(1)
    expect(worker).to_contain_text("1 restart")
    expect(worker.locator(".state")).to_have_text("ready")
    assert gateway.pid("edge-2") != before
    assert gateway.logged("drained", process="edge-2")
    assert gateway.logged("worker ended", worker="edge-2")[-1]["exit"] == "status 0"
    expect(page.locator("#problems li")).to_have_count(0)
