"""presence and presence_stats on a real Redis."""

from __future__ import annotations

import pytest
from msgspec import Raw

from protocol.replies import ClientInfo
from tests.control.conftest import Control


async def enter(live: Control, channel: str, clients: int, users: int) -> None:
    entries = {
        f"c{number}": ClientInfo(user=f"u{number % users}", client=f"c{number}", conn_info=Raw(b'{"n":1}'))
        for number in range(clients)
    }
    await live.backends.presence.enter(channel, entries, tell=False)


async def test_who_is_there_and_how_many(live: Control) -> None:
    await enter(live, "chat:a", 3, 2)
    presence = (await live.result("presence", channel="chat:a"))["presence"]
    assert sorted(presence) == ["c0", "c1", "c2"]
    assert presence["c0"] == {"user": "u0", "client": "c0", "conn_info": {"n": 1}}
    assert await live.result("presence_stats", channel="chat:a") == {"num_clients": 3, "num_users": 2}


async def test_a_channel_with_nobody(live: Control) -> None:
    assert await live.result("presence", channel="chat:a") == {"presence": {}}
    assert await live.result("presence_stats", channel="chat:a") == {"num_clients": 0, "num_users": 0}


async def test_a_large_channel_arrives_whole(live: Control) -> None:
    await enter(live, "chat:a", 5000, 100)
    presence = (await live.result("presence", channel="chat:a"))["presence"]
    assert presence.keys() == {f"c{number}" for number in range(5000)}


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
@pytest.mark.parametrize(
    ("channel", "code", "field"),
    [("", 107, "channel: is missing"), ("news", 108, "channel: presence is off"), ("no:x", 102, "no namespace")],
)
async def test_what_is_wrong_is_refused_with_the_field(
    live: Control, method: str, channel: str, code: int, field: str
) -> None:
    found, message = await live.error(method, channel=channel)
    assert (found, field in message) == (code, True), message
