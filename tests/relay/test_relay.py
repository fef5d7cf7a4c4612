"""Events that were committed are published, once and in order; nothing else is."""

from __future__ import annotations

from tests.relay.conftest import Backend
from tests.support.waiting import wait_until


async def test_committed_events_are_published_in_order_and_leave_the_table(backend: Backend) -> None:
    await backend.say("chat:lobby", *range(50))
    async with backend.relaying() as relay:
        await wait_until(lambda: relay.report.counted.published == 50, "all rows published")
        await backend.say("chat:lobby", *range(50, 60))
        await wait_until(lambda: relay.report.counted.published == 60, "all rows published")
    assert backend.logged("chat:lobby") == list(range(60))
    assert await backend.rows() == []
