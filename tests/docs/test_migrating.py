"""The handlers that the page about migrating shows do what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from gateway.backend import RpcContext
from protocol.redis_contract import Received, decode_payload
from tests.docs.markdown import Page
from tests.support.redis_server import RedisServer
from tests.support.source import ROOT

PAGE = Page(ROOT / "gateway/MIGRATING.md")


async def test_what_a_client_says_reaches_the_room_with_its_name(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = [fence.text for fence in PAGE.fences if fence.language == "python" and "class Hooks" in fence.text]
    (rules,) = [fence.text for fence in PAGE.fences if fence.language == "toml" and "handlers" in fence.text]
    (tmp_path / "gateway.toml").write_text(f'{rules}[redis]\nurl = "{redis_server.url}"\n')
    monkeypatch.chdir(tmp_path)
    module: dict[str, Any] = {}
    exec(compile(code, "hooks", "exec"), module)
    hooks = module["Hooks"]()
    async with Redis.from_url(redis_server.url) as redis, redis.pubsub() as subscriber:
        await subscriber.subscribe("gw:pub:chat:lobby")
        await subscriber.get_message(timeout=10)
        await hooks.start()
        await hooks.on_rpc(RpcContext(client="c", user="42", method="say", data=Raw(b'"hello"')))
        message = await subscriber.get_message(timeout=10)
        await hooks.aclose()
    assert message is not None
    received = decode_payload(message["data"])
    assert isinstance(received, Received)
    assert bytes(received.publication.data) == b'{"by":"42","text":"hello"}'
    assert received.publication.offset == 1
