"""Large answers: a page at a time, made when the one before has been taken; broken off when Redis fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Raw
from starlette.types import Message

from gateway.broker import Page
from gateway.control import ControlServer, streams
from gateway.control.reading import PAGE
from gateway.control.server import open_listeners
from gateway.errors import BrokerUnavailable
from protocol.position import Position
from protocol.replies import ClientInfo, Publication
from tests.control.conftest import KEY, Control
from tests.support.waiting import wait_until

DATA = Raw(b'"' + b"x" * 100 + b'"')


class EndlessLog:
    """In the place of `ChannelLog`: a log with `size` publications. Counts what it has given out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.given = 0
        self.largest = 0
        self.fails_after = 10**9
        """Redis is away once that many publications are given."""
        self.epochs: dict[int, str] = {}
        """From that many given publications on, another epoch."""

    async def read(self, channel: str, *, after: int, limit: int) -> Page:
        return self._page(range(after + 1, min(after + limit, self.size) + 1))

    async def read_back(self, channel: str, *, before: int | None, limit: int) -> Page:
        newest = before - 1 if before is not None else self.size
        return self._page(range(newest, max(newest - limit, 0), -1))

    def _page(self, offsets: range) -> Page:
        if self.given >= self.fails_after:
            raise BrokerUnavailable("gone")
        epoch = next((name for count, name in self.epochs.items() if self.given >= count), "e")
        self.given += len(offsets)
        self.largest = max(self.largest, len(offsets))
        return Page(
            [Publication(data=DATA, offset=offset) for offset in offsets], Position(offset=self.size, epoch=epoch)
        )


class EndlessPresence:
    """In the place of `PresenceStore`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.given = 0

    async def stats(self, channel: str) -> tuple[int, int]:
        return self.size, 1

    async def read(self, channel: str) -> AsyncGenerator[list[tuple[str, ClientInfo]], None]:
        for start in range(0, self.size, PAGE):
            self.given += PAGE
            yield [(f"c{n}", ClientInfo(user="u", client=f"c{n}")) for n in range(start, start + PAGE)]


class Reader:
    """A caller that takes an answer piece by piece, when the test says so."""

    def __init__(self, app: Any, method: str, request: object) -> None:
        self._app = app
        self._scope = {
            "type": "http",
            "method": "POST",
            "path": f"/api/{method}",
            "raw_path": f"/api/{method}".encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:9000"), (b"x-api-key", KEY.encode())],
            "server": ("127.0.0.1", 9000),
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }
        self._body: Message | None = {"type": "http.request", "body": msgspec.json.encode(request), "more_body": False}
        self.gone = asyncio.Event()
        self._may_take = asyncio.Semaphore(0)
        self.pieces: list[bytes] = []
        self.offered = 0
        self.running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        return body

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.offered += 1
            await self._may_take.acquire()
            self.pieces.append(message["body"])

    async def take(self) -> None:
        """Take one piece, and wait until the next is offered or the answer is over."""
        taken = len(self.pieces) + 1
        self._may_take.release()
        await wait_until(
            lambda: len(self.pieces) == taken and (self.offered > taken or self.running.done()), "the next piece"
        )

    def entries(self) -> int:
        """Publications taken so far."""
        return b"".join(self.pieces).count(b'"data":')

    def let_flow(self, count: int) -> None:
        for _ in range(count):
            self._may_take.release()

    async def take_all(self) -> Any:
        self.let_flow(100_000)
        await self.running
        return msgspec.json.decode(b"".join(self.pieces))


@pytest.fixture
async def history_of(control_with_history: Control) -> AsyncIterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def read(log: EndlessLog, **request: object) -> Reader:
        app = control_with_history.make_app(log=log)
        readers.append(Reader(app, "history", {"channel": "chat:a", "limit": -1} | request))
        return readers[-1]

    yield read
    for reader in readers:
        reader.running.cancel()
        await asyncio.wait([reader.running])


@pytest.fixture
def control_with_history(make_control: Callable[..., Control]) -> Control:
    rules = {"history_size": 1_000_000, "history_ttl_s": 600, "presence": True}
    return make_control(namespaces={"chat": rules})


@pytest.mark.parametrize("reverse", [False, True])
async def test_no_page_is_read_before_the_last_one_was_taken(history_of: Callable[..., Reader], reverse: bool) -> None:
    log = EndlessLog(100 * PAGE)
    reader = history_of(log, reverse=reverse)
    await wait_until(lambda: reader.offered == 1, "the first piece")
    for _ in range(40):
        await reader.take()
        assert log.given - PAGE <= reader.entries() <= log.given
    assert log.given <= 40 * PAGE
    result = (await reader.take_all())["result"]
    assert (len(result["publications"]), log.given, log.largest) == (100 * PAGE, 100 * PAGE, PAGE)
    assert max(map(len, reader.pieces)) < PAGE * 200


async def test_what_is_published_while_it_is_read_is_not_waited_for(history_of: Callable[..., Reader]) -> None:
    log = EndlessLog(2 * PAGE + 5)
    reader = history_of(log)
    await wait_until(lambda: reader.offered == 1, "the first piece")
    log.size *= 10
    result = (await reader.take_all())["result"]
    assert [publication["offset"] for publication in result["publications"]] == list(range(1, 2 * PAGE + 6))
    assert result["offset"] == 2 * PAGE + 5


async def test_presence_is_read_as_it_is_taken(control_with_history: Control) -> None:
    store = EndlessPresence(50 * PAGE)
    reader = Reader(control_with_history.make_app(presence=store), "presence", {"channel": "chat:a"})
    await wait_until(lambda: reader.offered == 1, "the first piece")
    for taken in range(1, 20):
        await reader.take()
        assert store.given <= taken * PAGE
    assert len((await reader.take_all())["result"]["presence"]) == 50 * PAGE


async def test_a_parallel_batch_holds_one_page_too_whatever_it_asks_for(control_with_history: Control) -> None:
    log = EndlessLog(20 * PAGE)
    app = control_with_history.make_app(log=log)
    command = {"history": {"channel": "chat:a", "limit": -1}}
    reader = Reader(app, "batch", {"commands": [command] * 10, "parallel": True})
    await wait_until(lambda: reader.offered == 1, "the first piece")
    for _ in range(30):
        await reader.take()
        assert log.given - PAGE <= reader.entries() <= log.given
    replies = (await reader.take_all())["replies"]
    assert [len(reply["history"]["publications"]) for reply in replies] == [20 * PAGE] * 10


async def test_when_the_caller_goes_nothing_more_is_read(history_of: Callable[..., Reader]) -> None:
    log = EndlessLog(1000 * PAGE)
    reader = history_of(log)
    await wait_until(lambda: reader.offered == 1, "the first piece")
    reader.gone.set()
    for _ in range(5):
        await asyncio.sleep(0)  # the listener sees it in its turn
    reader.let_flow(100)
    await reader.running
    assert log.given <= 2 * PAGE


async def test_a_caller_that_stops_reading_is_let_go(
    history_of: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STALLED_S", 0.05)
    log = EndlessLog(1000 * PAGE)
    reader = history_of(log)
    await reader.running
    assert log.given == PAGE


# On a real socket


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    serving = asyncio.Event()
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    server = ControlServer(app, listeners, serving.set)
    running = asyncio.create_task(server.run_until_stopped())
    await serving.wait()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}) as client:
        yield client
    server.stop()
    await running


async def test_what_fails_before_the_first_byte_is_a_proper_error(control_with_history: Control) -> None:
    log = EndlessLog(10 * PAGE)
    log.fails_after = 0
    async with served(control_with_history.make_app(log=log)) as client:
        answer = await client.post("/api/history", json={"channel": "chat:a", "limit": -1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, 100)
        headers = {"X-Centrifugo-Error-Mode": "transport"}
        answer = await client.post("/api/history", json={"channel": "chat:a", "limit": -1}, headers=headers)
        assert answer.status_code == 500


@pytest.mark.parametrize("why", ["redis", "epoch"])
async def test_what_fails_later_breaks_the_connection_off(control_with_history: Control, why: str) -> None:
    log = EndlessLog(10 * PAGE)
    if why == "redis":
        log.fails_after = 3 * PAGE
    else:
        log.epochs = {3 * PAGE: "other"}
    async with served(control_with_history.make_app(log=log)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/history", json={"channel": "chat:a", "limit": -1})
        batch = {"commands": [{"history": {"channel": "chat:a", "limit": -1}}, {"rpc": {}}]}
        log.given = 0
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/batch", json=batch)
        log.given, log.fails_after, log.epochs = 0, 99 * PAGE, {}
        answer = await client.post("/api/history", json={"channel": "chat:a", "limit": -1})
        assert len(answer.json()["result"]["publications"]) == 10 * PAGE
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
