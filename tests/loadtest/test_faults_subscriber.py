"""The clients of the faults, against a server that does what it is told: they behave as SDKs do, and notice wrongs.

Here a wrong gateway is shown to fail: each test of the second half is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from loadtest.bench.chunks import CLOSE, PING, PONG, TEXT, unmasked
from loadtest.bench.opening import ACCEPT
from loadtest.faults.record import Record
from loadtest.faults.subscriber import Departure, Subscriber, Surroundings, delay_s, is_terminal
from protocol.position import Position
from tests.support.waiting import DEADLINE_S, wait_until

Json = dict[str, Any]


class Connection:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, size = await self.reader.readexactly(2)
        size &= 0x7F
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2))
        assert await self.reader.readexactly(4) == bytes(4)
        return first & 0x0F, await self.reader.readexactly(size)

    async def commands(self) -> list[Json]:
        """Of the next message."""
        opcode, payload = await asyncio.wait_for(self.read(), DEADLINE_S)
        assert opcode == TEXT
        return [orjson.loads(line) for line in payload.split(b"\n")]

    def send(self, *documents: Json) -> None:
        self.writer.write(unmasked(TEXT, b"\n".join(map(orjson.dumps, documents))))

    def close(self, code: int, reason: str = "") -> None:
        self.writer.write(unmasked(CLOSE, code.to_bytes(2) + reason.encode()))

    def publish(self, *offsets: int, channel: str = "news", extra: int = 0) -> None:
        """Publications whose sequence numbers are their offsets plus `extra`, one message each."""
        for offset in offsets:
            pub = {"data": {"sequence": offset + extra}, "offset": offset}
            self.send({"push": {"channel": channel, "pub": pub}})

    def unsubscribe(self, code: int) -> None:
        self.send({"push": {"channel": "news", "unsubscribe": {"code": code, "reason": "because"}}})

    async def welcome(self, **result: Any) -> Json:
        """Take `connect` and `subscribe` and accept both. What the client asked of `subscribe`."""
        connect, subscribe = await self.commands()
        connected = {"client": f"client-{id(self)}", "version": "0", "ping": 25, "pong": True}
        self.send({"id": connect["id"], "connect": connected})
        self.accept(subscribe, **result)
        request: Json = subscribe["subscribe"]
        return request

    def accept(self, command: Json, **result: Any) -> None:
        accepted = {"recoverable": True, "epoch": "a", "positioned": True} | result
        if "recover" in command["subscribe"]:
            accepted["was_recovering"] = True
        self.send({"id": command["id"], "subscribe": accepted})


class Server:
    """Takes connections and does the handshake."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def connection(self) -> Connection:
        """The next one."""
        return await asyncio.wait_for(self.connections.get(), DEADLINE_S)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n")
        self.connections.put_nowait(Connection(reader, writer))


class Stage:
    """One client of the channel `news`, and its server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.record = Record()
        self.around = Surroundings("127.0.0.1", server.port, "/", lambda user: f"token of {user}", self.record)
        self.around.fault = "nothing"
        self.client = Subscriber("ann", ["news"], self.around)
        self.client.start()

    @property
    def ledger(self) -> Any:
        return self.client.subscriptions["news"].ledger

    async def welcomed(self, offset: int = 0) -> Connection:
        connection = await self.server.connection()
        await connection.welcome(offset=offset)
        return connection

    async def reached(self, offset: int, epoch: str = "a") -> None:
        position = Position(offset=offset, epoch=epoch)
        await wait_until(lambda: self.ledger.reached(position), lambda: f"{position}, is {self.ledger.position}")


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("loadtest.faults.subscriber.DELAY_S", (0.0, 0.0))
    server = Server()
    await server.start()
    stage = Stage(server)
    yield stage
    stage.client.close()
    await server.aclose()


async def test_it_connects_and_subscribes_in_one_message_and_takes_what_comes(stage: Stage) -> None:
    connection = await stage.server.connection()
    assert await connection.welcome(offset=3) == {"channel": "news"}
    connection.publish(4, 5)
    await stage.reached(5)
    assert (stage.ledger.delivered, stage.client.live, dict(stage.record.wrong)) == (2, True, {})


async def test_it_answers_pings_of_both_kinds(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.send({})
    assert await connection.read() == (TEXT, b"{}")
    connection.writer.write(unmasked(PING, b"hey"))
    assert await connection.read() == (PONG, b"hey")


@pytest.mark.parametrize("code", [2500, 2501])
async def test_unsubscribed_for_now_it_recovers_from_its_position(stage: Stage, code: int) -> None:
    connection = await stage.welcomed()
    connection.publish(1, 2)
    connection.unsubscribe(code)
    (again,) = await connection.commands()
    assert again["subscribe"] == {"channel": "news", "recover": True, "epoch": "a", "offset": 2}
    missed = [{"offset": offset, "data": {"sequence": offset}} for offset in (3, 4)]
    connection.accept(again, recovered=True, offset=2, publications=missed)
    connection.publish(5)
    await stage.reached(5)
    assert (stage.ledger.delivered, stage.ledger.recovered, stage.ledger.told) == (5, 2, 0)
    assert dict(stage.around.notices) == {f"unsubscribe {code}": 1, "recovered": 1}


async def test_closed_for_now_it_comes_back_and_recovers(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1, 2)
    await stage.reached(2)
    client_id = stage.client.client_id
    connection.close(3012, "no pong")
    again = await stage.server.connection()
    asked = await again.welcome(recovered=True, offset=2)
    assert asked == {"channel": "news", "recover": True, "epoch": "a", "offset": 2}
    assert stage.around.departures == [Departure(client_id, 3012, "no pong", "nothing")]


async def test_a_broken_connection_is_a_departure_with_code_1006(stage: Stage) -> None:
    connection = await stage.welcomed()
    await wait_until(lambda: stage.client.live, "subscribed")
    connection.writer.transport.abort()
    await stage.welcomed()
    assert [each.code for each in stage.around.departures] == [1006]


async def test_closed_for_good_it_stays_away_and_that_is_wrong(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.close(3503, "force disconnect")
    await wait_until(lambda: stage.record.wrong, "noticed")
    assert dict(stage.record.wrong) == {"sent away for good with code 3503 force disconnect (during “nothing”)": 1}
    assert stage.server.connections.empty()


async def test_a_temporary_error_is_tried_again_any_other_is_wrong(stage: Stage) -> None:
    connection = await stage.server.connection()
    connect, subscribe = await connection.commands()
    connection.send({"id": connect["id"], "connect": {"client": "c", "version": "0"}})
    connection.send({"id": subscribe["id"], "error": {"code": 100, "message": "internal", "temporary": True}})
    (again,) = await connection.commands()
    connection.send({"id": again["id"], "error": {"code": 103, "message": "permission denied"}})
    await wait_until(lambda: stage.record.wrong, "noticed")
    assert dict(stage.record.wrong) == {"subscribe: error 103 permission denied (during “nothing”)": 1}
    assert dict(stage.around.notices) == {"subscribe: error 100": 1}


async def test_a_reply_that_does_not_come_makes_it_connect_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await stage.welcomed()
    await wait_until(lambda: stage.client.live, "subscribed")
    monkeypatch.setattr("loadtest.faults.subscriber.REPLY_TIMEOUT_S", 0.02)
    connection.unsubscribe(2500)
    await stage.server.connection()
    assert [each.reason for each in stage.around.departures] == ["the client: subscribe was not answered within 0.02 s"]


async def test_vanished_it_is_not_heard_of_and_hears_nothing_and_is_back_elsewhere(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1)
    await stage.reached(1)
    client_id = stage.client.client_id
    assert stage.client.vanish() == client_id
    connection.publish(2, 3)
    again = await stage.server.connection()
    assert (await again.welcome(recovered=True, offset=1))["offset"] == 1
    connection.publish(4)
    reading = asyncio.ensure_future(connection.reader.read(1))
    await asyncio.wait([reading], timeout=0.3)
    assert not reading.done()
    reading.cancel()
    assert (stage.ledger.delivered, stage.around.departures, dict(stage.record.wrong)) == (1, [], {})


async def test_asleep_it_reads_nothing_and_awake_everything(stage: Stage) -> None:
    connection = await stage.welcomed()
    await wait_until(lambda: stage.client.live, "subscribed")
    stage.client.fall_asleep()
    connection.publish(1, 2)
    await asyncio.sleep(0.1)
    assert stage.ledger.delivered == 0
    stage.client.wake_up()
    await stage.reached(2)


async def test_frames_may_come_in_pieces(stage: Stage) -> None:
    connection = await stage.welcomed()
    frame = unmasked(
        TEXT, b'{"push":{"channel":"news","pub":{"data":{"sequence":1,"f":"%b"},"offset":1}}}' % (b"x" * 70_000)
    )
    for start in range(0, len(frame), 9_999):
        connection.writer.write(frame[start : start + 9_999])
        await asyncio.sleep(0.005)
    await stage.reached(1)


# Wrong gateways.


async def test_what_comes_twice_or_not_at_all_is_counted(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1, 2, 2, 5, 4)
    await stage.reached(5)
    await wait_until(lambda: stage.ledger.out_of_order, "the last one")
    lost = stage.ledger.lost({"a": dict.fromkeys(range(1, 6), 0)})
    assert (stage.ledger.doubled, stage.ledger.out_of_order, lost) == (1, 1, 1)


async def test_a_recovery_that_brings_too_much_is_doubled(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1, 2)
    connection.unsubscribe(2500)
    (again,) = await connection.commands()
    missed = [{"offset": offset, "data": {"sequence": offset}} for offset in (2, 3)]
    connection.accept(again, recovered=True, offset=2, publications=missed)
    await stage.reached(3)
    assert stage.ledger.doubled == 1


async def test_not_recovered_without_a_new_epoch_is_a_loss(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1)
    connection.unsubscribe(2500)
    (again,) = await connection.commands()
    connection.accept(again, offset=3)
    await stage.reached(3)
    assert stage.ledger.lost({"a": {1: 1, 2: 2, 3: 3}}) == 2


async def test_not_recovered_with_a_new_epoch_is_told(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.publish(1)
    connection.unsubscribe(2500)
    (again,) = await connection.commands()
    connection.accept(again, offset=3, epoch="b")
    await stage.reached(3, "b")
    assert (stage.ledger.lost({"a": {1: 1, 2: 2}, "b": {1: 3, 2: 4, 3: 5}}), stage.ledger.told) == (0, 1)
    assert dict(stage.record.wrong) == {}


@pytest.mark.parametrize(("offset", "epoch"), [(2, "a"), (1, "b")])
async def test_recovered_from_a_position_that_was_not_asked_for_is_wrong(stage: Stage, offset: int, epoch: str) -> None:
    connection = await stage.welcomed()
    connection.publish(1)
    connection.unsubscribe(2500)
    (again,) = await connection.commands()
    connection.accept(again, recovered=True, offset=offset, epoch=epoch)
    await wait_until(lambda: stage.record.wrong, "noticed")
    assert dict(stage.record.wrong) == {"recovered from another position than the client's (during “nothing”)": 1}


async def test_a_publication_after_the_unsubscription_is_wrong(stage: Stage) -> None:
    connection = await stage.welcomed()
    connection.unsubscribe(2500)
    connection.publish(1)
    await wait_until(lambda: stage.record.wrong, "noticed")
    assert dict(stage.record.wrong) == {"publications outside of a subscription (during “nothing”)": 1}


async def test_a_subscription_without_history_is_wrong(stage: Stage) -> None:
    connection = await stage.server.connection()
    await connection.welcome(recoverable=False)
    await wait_until(lambda: stage.record.wrong, "noticed")
    assert dict(stage.record.wrong) == {"subscriptions that are not recoverable (during “nothing”)": 1}


async def test_another_publication_than_was_accepted_is_wrong(stage: Stage) -> None:
    connection = await stage.welcomed()
    stage.record.accept("news", Position(offset=1, epoch="a"), 1)
    connection.publish(1, extra=1)
    await stage.reached(1)
    stage.record.compare()
    assert dict(stage.record.wrong) == {"subscribers got another publication than was accepted at that offset": 1}


@pytest.mark.parametrize(("replicated", "discarded", "wrong"), [(True, 1, 1), (False, 0, 2)])
def test_only_a_master_with_replicas_may_deliver_what_is_discarded_and_only_in_an_epoch_that_has_ended(
    replicated: bool, discarded: int, wrong: int
) -> None:
    record = Record()
    for epoch, offset in (("a", 1), ("a", 2), ("b", 3)):
        record.see("news", epoch, offset, sequence=offset)
        record.accept("news", Position(offset=offset, epoch=epoch), 9 if offset != 1 else 1)
    record.compare(replicated=replicated)
    assert (record.discarded, sum(record.wrong.values())) == (discarded, wrong)


def test_codes_and_delays_are_those_of_the_sdks() -> None:
    codes = (1006, 1013, 3000, 3012, 3499, 3500, 3999, 4000, 4500, 4999, 5000)
    assert [code for code in codes if is_terminal(code)] == [3500, 3999, 4500, 4999]
    for attempts, longest in ((0, 1.0), (1, 1.5), (3, 4.5), (40, 20.0)):
        assert all(0.5 <= delay_s(attempts) <= longest for _ in range(100))
