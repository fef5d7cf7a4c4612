"""What is left of a connection when it is closed: nothing that only the garbage collector would find."""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable

import pytest
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from gateway.edge import Connection
from gateway.session import Session
from gateway.tasks import Steps
from protocol.codes import SHUTDOWN
from tests.support.edge import EdgeWorld, Peer, close_frame
from tests.support.wire import request

End = Callable[[Peer], Awaitable[None]]


async def ended_by_the_client(peer: Peer) -> None:
    peer.send(close_frame(1000), Opcode.CLOSE)


async def ended_by_us(peer: Peer) -> None:
    peer.connection.shut_down(SHUTDOWN)


async def ended_by_a_violation(peer: Peer) -> None:
    peer.send("x", mask=False)


async def ended_by_a_bad_command(peer: Peer) -> None:
    peer.send("hello")


async def ended_while_waiting(peer: Peer) -> None:
    peer.world.session.confirms = False
    peer.send(json.dumps({"id": 2, "subscribe": {"channel": "news"}}))


async def lost(peer: Peer) -> None:
    pass


async def refused_in_the_handshake(peer: Peer) -> None:
    world = peer.world
    for bad in (b"hello\r\n\r\n", request(Sec_WebSocket_Key="x"), request("/elsewhere"), request(X="y" * 10_000)):
        other = world.peer()
        other.feed(bad)
        other.vanish()


@pytest.mark.parametrize(
    "end",
    [
        ended_by_the_client,
        ended_by_us,
        ended_by_a_violation,
        ended_by_a_bad_command,
        ended_while_waiting,
        lost,
        refused_in_the_handshake,
    ],
    ids=lambda end: end.__name__,
)
async def test_a_closed_connection_takes_itself_apart_without_the_garbage_collector(end: End) -> None:
    """The heap is frozen (`gateway.edge.tend`): what refers to itself would never go."""
    world = EdgeWorld()
    peer = await world.connected()
    await world.session.publish("@all", b"1")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await end(peer)
        peer.vanish()
        world.session.answer_redis()
        await world.session.settle()
        del peer
        gc.collect()
        left = [each for each in gc.garbage if isinstance(each, Connection | Session | ServerProtocol | Steps)]
        assert left == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_the_test_above_would_see_a_cycle() -> None:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        steps = Steps(ended_by_us(None), print)  # type: ignore[arg-type]
        steps.close()
        steps._ended = steps.close  # type: ignore[assignment]
        del steps
        gc.collect()
        assert [each for each in gc.garbage if isinstance(each, Steps)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
