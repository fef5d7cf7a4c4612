"""What redis-py lets through when a connection is lost becomes its ConnectionError; mistakes stay what they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.storage.lost import closed, lost_is_said


def test_a_write_without_a_writer_is_a_lost_connection() -> None:
    writer: Any = None
    with pytest.raises(RedisConnectionError, match="closed"), lost_is_said():
        writer.writelines([b"PING"])


def test_mistakes_are_not_taken_for_lost_connections() -> None:
    with pytest.raises(AttributeError), lost_is_said():
        object().missing  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(RuntimeError, match="another loop"), lost_is_said():
        raise RuntimeError("attached to another loop")


async def test_closing_fails_for_nobody() -> None:
    async def close(error: BaseException) -> None:
        raise error

    await closed(close(RedisTimeoutError("Timed out closing connection after 5.0")))
    await closed(close(ConnectionResetError()))
    with pytest.raises(asyncio.CancelledError):
        await closed(close(asyncio.CancelledError()))
