"""The chapter on token streams: its Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import gateway.streams
from gateway.streams import Streams
from tests.support.redis_server import RedisServer

README = Path(gateway.streams.__file__).with_name("README.md")
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


EXPECTED = {"answer-17": "Forty-two.\n", "answer-18": "Here it is."}


@pytest.mark.parametrize(("snippet", "key"), list(zip(SNIPPETS, EXPECTED, strict=True)))
async def test_snippets_run_as_they_are(snippet: str, key: str, redis_server: RedisServer, streams: Streams) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(snippet, names)
    await names["main"](redis_server.url)
    first, last = [record async for record in streams.read(key)]
    assert (first.text, last.type) == (EXPECTED[key], "finished")
    status = await streams.status(key)
    assert status is not None
    assert status.owner == "42"
