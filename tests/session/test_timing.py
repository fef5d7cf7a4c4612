"""The time that commands take: which operation each is, and when it ends."""

from __future__ import annotations

import pytest

from gateway.errors import BrokerUnavailable
from gateway.metrics import names
from gateway.metrics.histograms import recent, slow_operations
from gateway.session import timing
from protocol.commands import Command, HistoryRequest
from tests.support.session import SessionWorld

OPEN = {
    "namespaces": {
        "default": {"publish_by": "anyone", "history_size": 10, "history_ttl_s": 60},
    }
}


def counts(world: SessionWorld) -> dict[str, int]:
    """Operations that have happened, by name."""
    found = {
        operation.name: recent([world.hub.latencies], number, world.clock.monotonic()).count
        for number, operation in enumerate(names.OPERATIONS)
    }
    return {name: count for name, count in found.items() if count and name != "broadcast"}


async def test_each_command_is_counted_as_what_it_is() -> None:
    world = SessionWorld(**OPEN)
    client = await world.connected()
    assert counts(world) == {"connect": 1}
    await client.frame({"id": 5, "subscribe": {"channel": "a"}}, {"id": 6, "subscribe": {"channel": "b"}})
    await client.ask(publish={"channel": "a", "data": 1})
    await client.ask(history={"channel": "a"})
    await client.ask(presence={"channel": "a"})
    await client.ask(presence_stats={"channel": "a"})
    await client.ask(ping={})
    await client.ask(unsubscribe={"channel": "a"})
    assert counts(world) == {"connect": 1, "subscribe": 2, "publish": 1, "history": 1, "presence": 2}


async def test_commands_that_are_refused_are_timed_too() -> None:
    world = SessionWorld()
    client = await world.connected()
    await client.ask(rpc={"method": "x"})
    await client.ask(history={"channel": "a"})
    assert counts(world) == {"connect": 1, "rpc": 1, "history": 1}


@pytest.mark.parametrize("error", [None, BrokerUnavailable("away")])
async def test_a_publish_ends_when_redis_has_answered(error: Exception | None) -> None:
    world = SessionWorld(namespaces={"default": {"publish_by": "anyone"}})
    client = await world.connected()
    world.broker.late = True
    await client.frame({"id": 9, "publish": {"channel": "a", "data": 1}})
    assert "publish" not in counts(world)
    (waiting,) = world.broker.waiting
    if error is None:
        waiting.set_result(1)
    else:
        waiting.set_exception(error)
    await world.settle()
    assert counts(world)["publish"] == 1


async def test_a_slow_command_is_kept_with_channel_and_user() -> None:
    world = SessionWorld()
    client = await world.connected("ada")
    timing.record(client.session, [Command(id=1, history=HistoryRequest(channel="news"))], 0.7)
    (slow,) = slow_operations(world.hub.latencies)
    assert (slow.operation, slow.channel, slow.user, slow.seconds) == (names.OP_HISTORY, "news", "ada", 0.7)


async def test_a_clients_publication_is_followed_to_the_sockets_of_its_worker() -> None:
    world = SessionWorld(namespaces={"default": {"publish_by": "anyone"}})
    ada, bob = await world.connected("ada"), await world.connected("bob")
    await bob.ask(subscribe={"channel": "news"})
    await ada.frame({"id": 8, "publish": {"channel": "news", "data": 1}})
    await world.publish("news", b'"from a backend"')
    assert "publish_to_socket" not in counts(world)
    ((channel, payload),) = world.broker.published
    world.hub.hub.message_received(channel, payload)
    await world.settle()
    assert counts(world)["publish_to_socket"] == 1
    world.hub.hub.message_received(channel, payload)
    await world.settle()
    assert counts(world)["publish_to_socket"] == 1
