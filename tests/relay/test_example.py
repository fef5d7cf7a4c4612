"""The example program, on both databases."""

from __future__ import annotations

import httpx

from gateway.relay.examples.orders import create_app
from tests.relay.conftest import Backend
from tests.support.waiting import wait_until


async def test_an_order_and_its_news_are_committed_together_or_not_at_all(backend: Backend) -> None:
    url = backend.settings.url.replace("sqlite://", "sqlite+aiosqlite://").replace("gresql://", "gresql+asyncpg://")
    app = create_app(url)
    transport = httpx.ASGITransport(app=app)
    async with (
        backend.relaying() as relay,
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        refused = await client.post("/orders", json={"user": "42", "item": "nothing"})
        assert refused.status_code == 422
        made = (await client.post("/orders", json={"user": "42", "item": "tea"})).raise_for_status().json()
        await wait_until(lambda: relay.report.counted.published == 1, "the news is out")
        assert backend.logged("chat:42") == [{"order": made["id"], "item": "tea"}]
    await backend.execute("DROP TABLE orders")
