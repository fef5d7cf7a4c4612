"""One life of the subscriber connection, on bytes: what one turn of the loop reads."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, cast

from gateway.broker.link import REPLIES_A_PASS, Link
from gateway.broker.resp import PLAIN
from gateway.errors import BrokerRefused
from tests.support.edge import FakeTransport


class Heard:
    """Counts what it hears (`gateway.broker.SubscriberListener`)."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def message_received(self, channel: bytes, payload: bytes) -> None:
        self.payloads.append(payload)

    def subscriber_connected(self) -> None: ...
    def subscriber_lost(self, reason: str) -> None: ...
    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None: ...
    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None: ...


def message(payload: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%s\r\n" % (len(payload), payload)


def linked(heard: Heard) -> tuple[Link, FakeTransport]:
    link, transport = Link(cast("Any", None), heard, PLAIN, lambda _: None, lambda _: None), FakeTransport()
    link.connection_made(transport)
    return link, transport


async def test_a_backlog_is_read_in_turns_of_the_loop_and_in_order() -> None:
    heard = Heard()
    link, transport = linked(heard)
    wanted = [b"%d" % number for number in range(3 * REPLIES_A_PASS + 7)]
    link.data_received(b"".join(map(message, wanted)))
    for turn in range(1, 4):
        assert len(heard.payloads) == turn * REPLIES_A_PASS
        assert not transport.reading
        await asyncio.sleep(0)
    assert heard.payloads == wanted
    assert transport.reading
    link.data_received(message(b"next"))
    assert heard.payloads[-1] == b"next"


async def test_what_is_read_at_once_does_not_pause_the_socket() -> None:
    heard = Heard()
    link, transport = linked(heard)
    link.data_received(b"".join([message(b"x")] * (REPLIES_A_PASS - 1)))
    assert (len(heard.payloads), transport.reading) == (REPLIES_A_PASS - 1, True)


async def test_a_link_that_is_aborted_behind_a_backlog_stays_quiet() -> None:
    heard = Heard()
    link, transport = linked(heard)
    link.data_received(b"".join([message(b"x")] * 2 * REPLIES_A_PASS))
    link.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (transport.aborted, len(heard.payloads)) == (True, REPLIES_A_PASS)
