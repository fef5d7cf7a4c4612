"""Publishers on a master that Sentinels name, and on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.broker import ChannelLog, Connection
from gateway.config import Redis
from gateway.publisher import AsyncPublisher, Message, Publisher
from tests.publisher.conftest import NAMESPACES
from tests.support.redis_fleet import FLEET_TIMEOUT_S, RedisFleet, redis_fleet

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)

CHANNELS = [f"chat:{number}" for number in range(10)]


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def fleet(request: pytest.FixtureRequest) -> Iterator[RedisFleet]:
    with redis_fleet(request.param) as fleet:
        yield fleet


async def logged(url: str, channel: str) -> list[bytes]:
    settings = Redis(url=url)
    connection = Connection(settings)
    queue = connection.queue()
    running = asyncio.create_task(queue.run())
    page = await ChannelLog(queue, queue, prefix=settings.prefix).read(channel, after=0, limit=1000)
    running.cancel()
    await asyncio.wait((running,))
    await connection.aclose()
    return [bytes(each.data) for each in page.publications if each.data]


def test_a_script_publishes_and_a_key_counts_once(fleet: RedisFleet) -> None:
    with Publisher(fleet.url, namespaces=NAMESPACES) as publisher:
        first = publisher.publish("chat:script", 1, key="once")
        assert publisher.publish("chat:script", 2, key="once") == first
        assert publisher.publish("plain", 3) is None
        newer = publisher.publish("chat:script", 4, version=5)
        assert publisher.publish("chat:script", 5, version=5) == newer
    assert asyncio.run(logged(fleet.url, "chat:script")) == [b"1", b"4"]


async def test_many_publications_to_channels_everywhere_keep_their_order(fleet: RedisFleet) -> None:
    async with AsyncPublisher(fleet.url, namespaces=NAMESPACES) as publisher:
        messages = [Message(channel=channel, data=number) for number in range(50) for channel in CHANNELS]
        positions = await publisher.publish_many(messages)
    assert [each.offset for each in positions if each is not None] == [n for n in range(1, 51) for _ in CHANNELS]
    for channel in CHANNELS:
        assert await logged(fleet.url, channel) == [b"%d" % number for number in range(50)]
