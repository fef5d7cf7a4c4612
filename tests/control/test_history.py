"""history and history_remove on a real Redis."""

from __future__ import annotations

import pytest

from gateway.control.streams import PAGE
from protocol.redis_contract import Metadata
from tests.control.conftest import Control


async def fill(live: Control, channel: str, count: int) -> str:
    """Publish the numbers 1 … count; the epoch."""
    log = live.backends.log
    sent = [log.append(channel, b"%d" % number, Metadata(), size=100_000, ttl_s=600) for number in range(1, count + 1)]
    return [(await each).position.epoch for each in sent][-1]


def offsets(result: dict[str, list[dict[str, int]]]) -> list[int]:
    assert all(publication["data"] == publication["offset"] for publication in result["publications"])
    return [publication["offset"] for publication in result["publications"]]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, []),
        ({"limit": 0}, []),
        ({"limit": -1}, range(1, 11)),
        ({"limit": 3}, range(1, 4)),
        ({"limit": 100}, range(1, 11)),
        ({"limit": 3, "since": {"offset": 4}}, range(5, 8)),
        ({"limit": -1, "since": {"offset": 10}}, []),
        ({"limit": -1, "since": {"offset": 99}}, []),
        ({"limit": -1, "reverse": True}, range(10, 0, -1)),
        ({"limit": 3, "reverse": True}, range(10, 7, -1)),
        ({"limit": 3, "since": {"offset": 4}, "reverse": True}, range(3, 0, -1)),
        ({"limit": -1, "since": {"offset": 1}, "reverse": True}, []),
        ({"limit": 0, "reverse": True}, []),
    ],
)
async def test_a_part_of_the_log(live: Control, request_: dict[str, object], expected: list[int]) -> None:
    epoch = await fill(live, "chat:a", 10)
    result = await live.result("history", channel="chat:a", **request_)
    assert offsets(result) == list(expected)
    assert (result["offset"], result["epoch"]) == (10, epoch)


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 345])
@pytest.mark.parametrize("reverse", [False, True])
async def test_a_log_of_several_pages_arrives_whole_and_in_order(live: Control, count: int, reverse: bool) -> None:
    await fill(live, "chat:a", count)
    everything = list(range(1, count + 1))
    if reverse:
        everything.reverse()
    assert offsets(await live.result("history", channel="chat:a", limit=-1, reverse=reverse)) == everything
    limit = PAGE + 1
    assert offsets(await live.result("history", channel="chat:a", limit=limit, reverse=reverse)) == everything[:limit]


async def test_a_channel_without_publications_has_a_position(live: Control) -> None:
    for limit in (0, -1, 5):
        result = await live.result("history", channel="chat:new", limit=limit)
        assert (result["publications"], result["offset"]) == ([], 0)
        assert result["epoch"]


async def test_after_remove_the_log_is_empty_and_the_position_stays(live: Control) -> None:
    epoch = await fill(live, "chat:a", 3)
    assert await live.result("history_remove", channel="chat:a") == {}
    result = await live.result("history", channel="chat:a", limit=-1)
    assert result == {"publications": [], "offset": 3, "epoch": epoch}
    assert await live.result("history_remove", channel="chat:never") == {}


async def test_another_epoch_is_error_112(live: Control) -> None:
    epoch = await fill(live, "chat:a", 3)
    for limit in (0, -1):
        since = {"offset": 1, "epoch": "other"}
        assert (await live.error("history", channel="chat:a", limit=limit, since=since))[0] == 112
    assert offsets(await live.result("history", channel="chat:a", limit=-1, since={"offset": 1, "epoch": epoch})) == [
        2,
        3,
    ]
    async with live.client() as client:
        client.headers["X-Centrifugo-Error-Mode"] = "transport"
        request = {"channel": "chat:a", "since": {"offset": 1, "epoch": "other"}}
        assert (await client.post("/api/history", json=request)).status_code == 416


@pytest.mark.parametrize(
    ("method", "request_", "code", "field"),
    [
        ("history", {}, 107, "channel: is missing"),
        ("history", {"channel": "news"}, 108, "channel: has no history"),
        ("history", {"channel": "no:x"}, 102, "no namespace"),
        ("history", {"channel": "chat:a", "limit": -2}, 107, "limit: expected int >= -1"),
        ("history", {"channel": "chat:a", "since": {"offset": -1}}, 107, "since.offset: "),
        ("history", {"channel": "chat:a", "since": {"offset": "1"}}, 107, "since.offset: "),
        ("history_remove", {"channel": "news"}, 108, "channel: has no history"),
        ("history_remove", {"channel": "a b"}, 107, "channel: "),
    ],
)
async def test_what_is_wrong_is_refused_with_the_field(
    live: Control, method: str, request_: dict[str, object], code: int, field: str
) -> None:
    found, message = await live.error(method, **request_)
    assert (found, field in message) == (code, True), message
