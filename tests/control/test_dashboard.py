"""The dashboard's state from counters, who gets it, and what operators do. The page itself: `tests/demo`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.control.dashboard_live import PATIENCE_S
from gateway.control.dashboard_login import MAX_SESSIONS, SESSION_S
from gateway.control.dashboard_state import DashboardState
from gateway.errors import BrokerUnavailable
from gateway.metrics import names
from protocol.channel import parse_channel
from tests.control.conftest import AUTHORITY, KEY, OTHER_KEY, Control

ORIGIN = {"Origin": f"http://{AUTHORITY}"}
FILES = ("dashboard.js", "view.js", "words.js", "charts.js", "actions.js", "client.js", "dashboard.css", "favicon.svg")


@pytest.fixture
async def page(control: Control) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a key, with cookies."""
    async with control.client(key=None) as client:
        yield client


async def log_in(page: httpx.AsyncClient, key: str = KEY) -> httpx.Response:
    return await page.post("/dashboard/login", json={"key": key}, headers=ORIGIN)


# The state.


def test_state_adds_workers_up(control: Control) -> None:
    for slot in (0, 1):
        row = control.start_worker(slot)
        row[names.CONNECTIONS] = 10 * (slot + 1)
        row[names.CLIENTS], row[names.USERS], row[names.CHANNELS], row[names.SUBSCRIPTIONS] = 9, 8, 7, 6
        row[names.QUEUED_BYTES] = 100
        row[names.FELL_BEHIND], row[names.DROPPED_SLOW], row[names.NO_PONG] = 1, 2, 3
    state = control.dashboard.state()
    assert (state.connections, state.clients, state.users, state.channels, state.subscriptions) == (30, 18, 16, 14, 12)
    assert state.queued_bytes == 200
    assert (state.slow_consumers.behind, state.slow_consumers.dropped, state.slow_consumers.no_pong) == (2, 4, 6)
    assert (state.status, state.problems) == ("ready", [])


def test_rates_are_differences_of_counters_and_do_not_end_with_a_worker(control: Control) -> None:
    row = control.start_worker(0)
    row[names.DELIVERIES], row[names.BYTES_OUT] = 1_000_000, 5
    control.dashboard.note()
    assert control.dashboard.state().rates is None
    control.clock.advance(2)
    row[names.DELIVERIES] += 500
    row[names.BYTES_OUT] += 3000
    row[names.PID] = 0
    control.dashboard.note()
    rates = control.dashboard.state().rates
    assert rates is not None
    assert (rates.deliveries, rates.bytes_out, rates.commands) == (250.0, 1500.0, 0.0)
    assert control.dashboard.curves().deliveries == [250.0]
    control.clock.advance(1)
    row[names.DELIVERIES] = 0
    control.dashboard.note()
    assert control.dashboard.curves().deliveries == [250.0, 0.0]


def test_curves_keep_five_minutes(control: Control) -> None:
    for _ in range(400):
        control.dashboard.note()
        control.clock.advance(1)
    curves = control.dashboard.curves()
    assert len(curves.time) == len(curves.connections) == 299
    assert curves.time[-1] - curves.time[0] == 298


def test_workers_are_described_with_what_is_wrong(control: Control) -> None:
    control.clock.now = 1_700_000_100.0
    row = control.start_worker(0)
    row[names.RESTARTS] = 3
    row[names.MEMORY_OWN] = 1000
    control.clock.advance(7)
    well, missing = control.dashboard.state().workers
    assert (well.name, well.state, well.age_s, well.restarts, well.pid) == ("edge-1", "stuck", 107, 3, 1000)
    assert well.trouble == "edge-1 has not moved for 7 s"
    assert (missing.name, missing.state, missing.trouble) == ("edge-2", "missing", "edge-2 is not running")
    assert control.dashboard.state().problems == [well.trouble, missing.trouble]


def test_memory_is_that_of_the_worker_that_is_worst_off(control: Control) -> None:
    control.start_worker(0)
    assert control.dashboard.state().memory is None
    for slot, level in ((0, 0), (1, 3)):
        row = control.start_worker(slot)
        row[names.MEMORY_USED], row[names.MEMORY_LIMIT], row[names.MEMORY_LEVEL] = 900 - slot, 1000, level
        row[names.MEMORY_OWN] = 50
    memory = control.dashboard.state().memory
    assert memory is not None
    assert (memory.used_bytes, memory.limit_bytes, memory.workers_bytes) == (899, 1000, 100)
    assert (memory.level, memory.level_in_words) == (3, "refusing new connections")


def test_redis_is_away_since_the_last_worker_lost_it(control: Control) -> None:
    assert control.dashboard.state().redis.state == "unknown"
    rows = [control.start_worker(slot) for slot in (0, 1)]
    control.dashboard.note()
    assert control.dashboard.state().redis.state == "connected"
    rows[0][names.REDIS_CONNECTED] = 0
    control.dashboard.note()
    assert control.dashboard.state().redis.state == "partly"
    control.clock.advance(10)
    rows[1][names.REDIS_CONNECTED] = 0
    control.dashboard.note()
    control.clock.advance(5)
    control.dashboard.note()
    away = control.dashboard.state().redis
    assert (away.state, away.away_since, away.connected, away.workers) == ("away", control.clock.now - 5, 0, 2)
    rows[1][names.REDIS_CONNECTED] = 1
    control.dashboard.note()
    assert control.dashboard.state().redis.away_since is None


def test_tallies_name_what_happened_and_nothing_else(control: Control) -> None:
    row = control.start_worker(0)
    row[names.DROPPED_QUEUE] = 5
    row[names.REFUSED_FULL] = 2
    found = [(tally.kind, tally.reason, tally.total) for tally in control.dashboard.state().tallies]
    assert found == [("handshakes refused", "full", 2), ("publications dropped", "queue_full", 5)]


def test_latencies_are_those_of_the_report_and_slow_operations_come_newest_first(control: Control) -> None:
    recorder = control.recorder(0)
    recorder.record(names.OP_CONNECT, 0.9, user="ada")
    control.clock.advance(10)
    recorder.tick(control.clock.monotonic(), control.clock.time())
    recorder.record(names.OP_PUBLISH, 0.3, channel="news")
    state = control.dashboard.state()
    assert [(each.operation, each.count) for each in state.latency] == [("connect", 1), ("publish", 1)]
    assert [(each.operation, each.user, each.channel) for each in state.slow] == [
        ("publish", "", "news"),
        ("connect", "ada", ""),
    ]


# Logging in.


@pytest.mark.parametrize("path", ["/dashboard/state", "/dashboard/curves"])
async def test_nobody_sees_anything_without_a_login(page: httpx.AsyncClient, path: str) -> None:
    assert (await page.get(path)).status_code == 401
    assert (await log_in(page)).status_code == 200
    assert (await page.get(path)).status_code == 200


async def test_the_cookie_is_kept_from_scripts_other_sites_and_plain_connections(page: httpx.AsyncClient) -> None:
    plain = (await log_in(page)).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={int(SESSION_S)}"} <= set(plain.split("; "))
    assert "Secure" not in plain
    assert plain.startswith("gateway_session_9000=")
    assert KEY not in plain
    forwarded = {"Origin": f"https://{AUTHORITY}", "X-Forwarded-Proto": "https"}
    answer = await page.post("/dashboard/login", json={"key": OTHER_KEY}, headers=forwarded)
    assert "Secure" in answer.headers["set-cookie"].split("; ")


async def test_every_full_key_opens_and_a_limited_one_does_not(make_control: Callable[..., Control]) -> None:
    limited = "limited-key-0123456789"
    control = make_control(control={"api_keys": [KEY], "keys": [{"name": "some", "key": limited}]})
    async with control.client(key=None) as page:
        assert (await log_in(page, limited)).status_code == 401
        assert (await page.get("/dashboard/state", headers={"X-API-Key": limited})).status_code == 401
        assert (await page.get("/dashboard/state", headers={"X-API-Key": KEY})).status_code == 200
        assert (await page.get("/dashboard/state", headers={"X-API-Key": "ключ".encode()})).status_code == 401
        assert (await log_in(page)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b'{"key": 5}', b"\xff"])
async def test_what_is_no_login_is_refused(page: httpx.AsyncClient, body: bytes) -> None:
    assert (await page.post("/dashboard/login", content=body, headers=ORIGIN)).status_code == 400


async def test_wrong_keys_are_slowed_down_and_never_logged(control: Control, page: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        statuses = [(await log_in(page, "wrong-key-0123456789")).status_code for _ in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429]
        refused = await log_in(page)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        control.clock.advance(1.5)
        assert (await log_in(page)).status_code == 200
        assert (await log_in(page, "wrong-key-0123456789")).status_code == 401
    assert len([line for line in logs if line["event"] == "dashboard login refused"]) == 8
    assert "wrong-key" not in str(logs)
    assert KEY not in str(logs)


async def test_wait_for_wrong_keys_grows_to_half_a_minute_and_no_further(
    control: Control, page: httpx.AsyncClient
) -> None:
    for _ in range(40):
        await log_in(page, "wrong-key-0123456789")
        control.clock.advance(31)
    await log_in(page, "wrong-key-0123456789")
    assert int((await log_in(page)).headers["retry-after"]) == 31


async def test_sessions_end_after_twelve_hours_and_with_the_logout(control: Control, page: httpx.AsyncClient) -> None:
    await log_in(page)
    cookie = dict(page.cookies)
    control.clock.advance(SESSION_S - 1)
    assert (await page.get("/dashboard/state")).status_code == 200
    control.clock.advance(1)
    assert (await page.get("/dashboard/state")).status_code == 401
    await log_in(page)
    cookie = dict(page.cookies)
    assert (await page.post("/dashboard/logout", headers=ORIGIN)).status_code == 200
    async with control.client(key=None) as thief:
        thief.cookies.update(cookie)
        assert (await thief.get("/dashboard/state")).status_code == 401


async def test_sessions_are_bounded_and_the_oldest_gives_way(control: Control) -> None:
    async with control.client(key=None) as first, control.client(key=None) as second, control.client(key=None) as other:
        await log_in(first)
        await log_in(second)
        for _ in range(MAX_SESSIONS - 1):
            await log_in(other)
        assert (await first.get("/dashboard/state")).status_code == 401
        assert (await second.get("/dashboard/state")).status_code == 200


@pytest.mark.parametrize("path", ["login", "logout", "ticket", "disconnect", "publish", "drain"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_pages_of_other_origins_are_refused(page: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    await log_in(page)
    answer = await page.post(f"/dashboard/{path}", json={"key": KEY, "user": "ada"}, headers=headers)
    assert answer.status_code == 403


async def test_without_any_key_nobody_gets_in(make_control: Callable[..., Control]) -> None:
    control = make_control(control={"api_keys": []})
    async with control.client(key=None) as page:
        assert (await page.get("/dashboard/session")).json()["access"] == "nobody"
        assert (await log_in(page, "")).status_code == 401
        assert (await page.get("/dashboard/state")).status_code == 401


async def test_insecure_gateway_needs_no_login_but_a_trusted_host(make_control: Callable[..., Control]) -> None:
    control = make_control(control={"api_keys": [], "host": "0.0.0.0"}, auth={"insecure": True})
    async with control.client(key=None) as page:
        session = (await page.get("/dashboard/session")).json()
        assert (session["access"], session["signed_in"], session["websocket"]) == ("open", True, None)
        assert (await page.get("/dashboard/state")).status_code == 200
        assert (await page.post("/dashboard/disconnect", json={"user": "ada"}, headers=ORIGIN)).status_code == 200
        assert (await page.post("/dashboard/ticket", headers=ORIGIN)).status_code == 503
    async with control.client("rebound.example:9000", key=None) as page:
        assert (await page.get("/dashboard/state")).status_code == 421


# Live.


async def test_ticket_puts_the_page_into_a_channel_that_no_client_can_subscribe_to(
    control: Control, page: httpx.AsyncClient
) -> None:
    assert (await page.post("/dashboard/ticket", headers=ORIGIN)).status_code == 401
    await log_in(page)
    ticket = (await page.post("/dashboard/ticket", headers=ORIGIN)).json()
    assert control.tickets == [(ticket["token"].removeprefix("ticket-of-"), 60.0, (ticket["channel"],))]
    assert parse_channel(ticket["channel"]).reserved
    await control.dashboard.publish()
    ((channel, payload),) = control.redis.published
    assert channel == ticket["channel"]
    assert msgspec.json.decode(payload, type=DashboardState).version
    for secret in (KEY, OTHER_KEY, page.cookies["gateway_session_9000"]):
        assert secret.encode() not in payload


async def test_logout_closes_the_sessions_websockets(control: Control, page: httpx.AsyncClient) -> None:
    await log_in(page)
    await page.post("/dashboard/ticket", headers=ORIGIN)
    await page.post("/dashboard/logout", headers=ORIGIN)
    ((channel, payload),) = control.redis.published
    assert channel == "control"
    message = msgspec.json.decode(payload)
    assert (message["op"], message["user"]) == ("disconnect", control.tickets[0][0])


async def test_publishing_goes_on_while_somebody_hears_it(control: Control, page: httpx.AsyncClient) -> None:
    assert not control.dashboard.is_watched
    await log_in(page)
    await page.get("/dashboard/state")
    assert control.dashboard.is_watched
    control.clock.advance(PATIENCE_S - 1)
    await control.dashboard.publish()  # the fake Redis says that two have heard it
    control.clock.advance(PATIENCE_S - 1)
    assert control.dashboard.is_watched
    control.redis.error = BrokerUnavailable("away")
    await control.dashboard.publish()
    control.clock.advance(1)
    assert not control.dashboard.is_watched


async def test_a_state_that_workers_would_not_take_is_not_published(make_control: Callable[..., Control]) -> None:
    control = make_control(limits={"publication_bytes": 1024}, server={"workers": 8})
    for slot in range(8):
        control.start_worker(slot)
    await control.dashboard.publish()
    assert not control.redis.published


async def test_a_program_that_asks_with_a_key_starts_no_publishing(control: Control, client: httpx.AsyncClient) -> None:
    assert (await client.get("/dashboard/state")).status_code == 200
    assert not control.dashboard.is_watched


# Actions.


async def test_disconnect_reaches_every_worker_and_is_logged_with_who_did_it(
    control: Control, page: httpx.AsyncClient
) -> None:
    await log_in(page)
    with capture_logs() as logs:
        answer = await page.post("/dashboard/disconnect", json={"user": "mallory"}, headers=ORIGIN)
        await page.post("/dashboard/disconnect", json={"user": "ada", "return": True}, headers=ORIGIN)
    assert answer.json()["result"]["message"] == "2 workers told to close the connections of mallory"
    sent = [msgspec.json.decode(payload) for _, payload in control.redis.published]
    assert [(each["user"], each.get("code", 3503)) for each in sent] == [("mallory", 3503), ("ada", 3011)]
    line = next(line for line in logs if line["event"] == "dashboard action")
    assert (line["action"], line["user"]) == ("disconnect", "mallory")
    assert line["who"].startswith("session ")
    assert line["who"].endswith(" of key 1")


async def test_publish_goes_the_way_of_the_api(control: Control, page: httpx.AsyncClient) -> None:
    await log_in(page)
    with capture_logs() as logs:
        body = b'{"channel": "chat:lobby", "data": {"secret": 1.50}}'
        answer = await page.post("/dashboard/publish", content=body, headers=ORIGIN)
    assert answer.json() == {"result": {}}
    assert control.redis.published == [("chat:lobby", b'{"secret": 1.50}')]
    assert "secret" not in str(logs)


@pytest.mark.parametrize(
    ("action", "body", "status", "words"),
    [
        ("disconnect", {}, 400, "user: is missing"),
        ("publish", {"channel": "nowhere:x", "data": 1}, 404, "no namespace"),
        ("publish", {"channel": "news"}, 400, "data: is missing"),
        ("drain", {"worker": "edge-9"}, 400, "there is no"),
        ("drain", {"worker": "edge-2"}, 400, "does not run"),
        ("drain", {"worker": 5}, 400, "worker"),
    ],
)
async def test_action_that_cannot_be_done_says_why(
    control: Control, page: httpx.AsyncClient, action: str, body: dict[str, object], status: int, words: str
) -> None:
    control.start_worker(0)
    await log_in(page)
    answer = await page.post(f"/dashboard/{action}", json=body, headers=ORIGIN)
    assert answer.status_code == status
    assert words in answer.json()["message"]
    assert not control.redis.published


async def test_actions_need_a_login(control: Control, page: httpx.AsyncClient) -> None:
    for action in ("disconnect", "publish", "drain"):
        answer = await page.post(f"/dashboard/{action}", json={"user": "ada"}, headers=ORIGIN)
        assert answer.status_code == 401
    assert not control.redis.published


async def test_drain_sends_sigterm_to_the_workers_process(control: Control, page: httpx.AsyncClient) -> None:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = subprocess.Popen(waiting, stdin=subprocess.PIPE)
    try:
        control.start_worker(0)[names.PID] = process.pid
        await log_in(page)
        answer = await page.post("/dashboard/drain", json={"worker": "edge-1"}, headers=ORIGIN)
        assert answer.status_code == 200
        assert process.wait(20) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


async def test_a_worker_that_has_not_moved_for_long_is_not_taken_for_its_process(
    control: Control, page: httpx.AsyncClient
) -> None:
    control.start_worker(0)[names.PID] = os.getpid()
    control.clock.advance(61)
    await log_in(page)
    answer = await page.post("/dashboard/drain", json={"worker": "edge-1"}, headers=ORIGIN)
    assert answer.status_code == 400
    assert "has not moved" in answer.json()["message"]


# Files.


async def test_page_and_its_files_load_nothing_from_elsewhere(page: httpx.AsyncClient) -> None:
    answer = await page.get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self';" in policy
    assert "connect-src 'self' ws://127.0.0.1:8000" in policy
    assert "unsafe" not in policy
    for name in FILES:
        found = await page.get(f"/dashboard/{name}")
        assert found.status_code == 200, name
        text = (answer.text + found.text).replace("http://www.w3.org/", "").replace("wss://example.com", "")
        for forbidden in ("http://", "https://", "innerHTML", " style=", "localStorage", "sessionStorage"):
            assert forbidden not in text, (name, forbidden)


async def test_every_file_that_the_page_names_is_there_and_nothing_else(page: httpx.AsyncClient) -> None:
    text = (await page.get("/")).text
    named = {part.split('"')[0] for part in text.split('="dashboard/')[1:]}
    assert len(named) >= 5
    for name in named:
        assert (await page.get(f"/dashboard/{name}")).status_code == 200, name
    for name in ("..%2Fapp.py", "nothing.js", "vendor", "vendor/../../app.py"):
        assert (await page.get(f"/dashboard/{name}")).status_code == 404


async def test_the_chart_library_comes_with_its_licence_and_version(page: httpx.AsyncClient) -> None:
    folder = Path(__file__).parents[2] / "gateway" / "control" / "dashboard" / "vendor"
    (script,) = folder.glob("uPlot-*.iife.min.js")
    version = script.name.removeprefix("uPlot-").removesuffix(".iife.min.js")
    assert f"uPlot (v{version})" in script.read_text()[:100]
    assert f"uPlot {version} " in (folder / "README.md").read_text()
    assert "MIT License" in (await page.get("/dashboard/vendor/uPlot-LICENSE.txt")).text
