"""revoke_token and invalidate_user_tokens, on a real Redis."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from gateway.control.revoke import REMEMBERED_S
from protocol.control_messages import Revoked, decode_control
from tests.control.conftest import Control


async def heard_after(live: Control, redis: Redis, method: str, **request: object) -> Revoked:
    """What workers hear when that is called; the same is remembered."""
    live.clock.now = time.time()  # Redis forgets by its own clock
    listener = redis.pubsub()
    await listener.subscribe("gw:control")
    assert (await listener.get_message(timeout=20))["type"] == "subscribe"
    assert await live.result(method, **request) == {}
    payload = (await listener.get_message(timeout=20))["data"]
    await listener.aclose()
    remembered = [revoked async for some in live.backends.revocations.read() for revoked in some]
    message = decode_control(payload)
    assert remembered == [message]
    assert isinstance(message, Revoked)
    return message


async def test_a_token_is_revoked_by_its_id(live: Control, redis: Redis) -> None:
    soon = int(time.time()) + 60
    assert await heard_after(live, redis, "revoke_token", uid="t1", expire_at=soon) == Revoked(
        token_id="t1", expire_at=soon
    )


async def test_without_a_time_it_is_remembered_for_thirty_days(live: Control, redis: Redis) -> None:
    message = await heard_after(live, redis, "revoke_token", uid="t1")
    assert message.expire_at == live.clock.now + REMEMBERED_S


async def test_a_users_tokens_so_far_are_revoked(live: Control, redis: Redis) -> None:
    message = await heard_after(live, redis, "invalidate_user_tokens", user="42")
    assert (message.user, message.issued_before) == ("42", live.clock.now)


async def test_no_user_is_everybody(live: Control, redis: Redis) -> None:
    message = await heard_after(live, redis, "invalidate_user_tokens", issued_before=1_700_000_000)
    assert (message.user, message.issued_before, message.token_id) == ("", 1_700_000_000, "")


@pytest.mark.parametrize(
    ("method", "request_", "code", "field"),
    [
        ("revoke_token", {}, 107, "uid: is missing"),
        ("revoke_token", {"uid": "x" * 1025}, 107, "uid: "),
        ("revoke_token", {"uid": "t", "expire_at": -1}, 107, "expire_at: "),
        ("revoke_token", {"uid": "t", "expire_at": 1e18}, 107, "expire_at: "),
        ("invalidate_user_tokens", {"user": "42", "issued_before": -1}, 107, "issued_before: "),
        ("invalidate_user_tokens", {"user": "42", "channel": "news"}, 108, "channel: "),
        ("invalidate_user_tokens", {"user": 42}, 107, "user: "),
    ],
)
async def test_what_is_wrong_is_refused_with_the_field(
    control: Control, method: str, request_: dict[str, object], code: int, field: str
) -> None:
    found, message = await control.error(method, **request_)
    assert (found, field in message) == (code, True), message
