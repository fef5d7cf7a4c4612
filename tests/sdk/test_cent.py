"""The PyPI package `cent`, sync and async, unchanged, against the running gateway: every method of the server API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import cent
import pytest

from gateway import __version__
from tests.support.client import Client
from tests.support.gateway import API_KEY, Gateway, encode_token, serving
from tests.support.waiting import DEADLINE_S, eventually

CONFIG = {
    "server": {"workers": 2},
    "namespaces": {
        "chat": {"history_size": 5000, "history_ttl_s": 300, "recover": True, "presence": True, "join_leave": True},
    },
}

Call = Callable[[cent.CentRequest[Any]], Awaitable[Any]]
OpenClient = Callable[..., Awaitable[Client]]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving(CONFIG) as gateway:
        yield gateway


@pytest.fixture
async def open_client(gateway: Gateway) -> AsyncIterator[OpenClient]:
    opened: list[Client] = []

    async def open_client(user: str, **options: Any) -> Client:
        opened.append(await Client.open(gateway.url))
        await opened[-1].connect(gateway.token(user, **options))
        return opened[-1]

    yield open_client
    for client in opened:
        await client.aclose()


@pytest.fixture(params=["sync", "async"])
async def api(gateway: Gateway, request: pytest.FixtureRequest) -> AsyncIterator[Call]:
    """`await api(cent.PublishRequest(…))`, with either client."""
    url = f"{gateway.control_url}/api"
    if request.param == "async":
        async with cent.AsyncClient(url, API_KEY, timeout=DEADLINE_S) as client:
            yield lambda request: getattr(client, request.api_method)(request)
    else:
        blocking = cent.Client(url, API_KEY, timeout=DEADLINE_S)
        yield lambda request: asyncio.to_thread(getattr(blocking, request.api_method), request)
        blocking.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a channel or user that no other test has."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-40:]


async def code_of(answer: Awaitable[Any]) -> int:
    with pytest.raises(cent.CentApiResponseError) as caught:
        await answer
    return int(caught.value.code)


# What needs Redis only


async def test_publish_reaches_subscribers_and_gives_the_position(
    api: Call, open_client: OpenClient, name: str
) -> None:
    client = await open_client("ada")
    await client.subscribe(f"chat:{name}")
    first = await api(cent.PublishRequest(channel=f"chat:{name}", data={"n": 1}, tags={"a": "b"}, idempotency_key="k"))
    again = await api(cent.PublishRequest(channel=f"chat:{name}", data={"n": 1}, idempotency_key="k"))
    assert (first.offset, again.offset, first.epoch) == (1, 1, again.epoch)
    assert (
        await api(cent.PublishRequest(channel=f"chat:{name}", data=None, b64data="Mg==", skip_history=True))
    ).offset == 0
    assert await client.wait_data(f"chat:{name}", 2) == [{"n": 1}, 2]
    assert client.publications(f"chat:{name}")[0]["tags"] == {"a": "b"}


async def test_broadcast_gives_each_channel_its_result_or_error(api: Call, name: str) -> None:
    result = await api(cent.BroadcastRequest(channels=[f"chat:{name}", "news", "nowhere:x"], data=1))
    assert [response.result.offset if response.result else 0 for response in result.responses] == [1, 0, 0]
    assert [response.error.code if response.error else 0 for response in result.responses] == [0, 0, 102]


async def test_errors_come_out_as_cents_errors(api: Call, gateway: Gateway) -> None:
    assert await code_of(api(cent.PublishRequest(channel="nowhere:x", data=1))) == 102
    assert await code_of(api(cent.PublishRequest(channel="a b", data=1))) == 107
    assert await code_of(api(cent.PublishRequest(channel="news", data=1, idempotency_key="k"))) == 108
    assert await code_of(api(cent.HistoryRequest(channel="news"))) == 108
    assert await code_of(api(cent.DisconnectRequest(user=""))) == 107
    assert await code_of(api(cent.BlockUserRequest(user="ada"))) == 104
    async with cent.AsyncClient(f"{gateway.control_url}/api", "wrong") as client:
        with pytest.raises(cent.CentUnauthorizedError):
            await client.info(cent.InfoRequest())


async def test_history_is_read_and_removed(api: Call, name: str) -> None:
    channel = f"chat:{name}"
    batch = [cent.PublishRequest(channel=channel, data=n) for n in range(10)]
    await api(cent.BatchRequest(requests=batch))
    position = await api(cent.HistoryRequest(channel=channel))
    assert (position.offset, position.publications) == (10, [])
    since = cent.StreamPosition(offset=7, epoch=position.epoch)
    page = await api(cent.HistoryRequest(channel=channel, limit=2, since=since))
    assert [(publication.offset, publication.data) for publication in page.publications] == [(8, 7), (9, 8)]
    newest = await api(cent.HistoryRequest(channel=channel, limit=1, reverse=True))
    assert [publication.offset for publication in newest.publications] == [10]
    other = cent.StreamPosition(offset=7, epoch="other")
    assert await code_of(api(cent.HistoryRequest(channel=channel, limit=2, since=other))) == 112
    await api(cent.HistoryRemoveRequest(channel=channel))
    everything = await api(cent.HistoryRequest(channel=channel, limit=-1))
    assert (everything.publications, everything.offset) == ([], 10)


async def test_a_history_of_several_pages_comes_whole(api: Call, gateway: Gateway, name: str) -> None:
    for number in range(2500):
        gateway.publish_logged(f"chat:{name}", number)
    result = await api(cent.HistoryRequest(channel=f"chat:{name}", limit=-1))
    assert [publication.data for publication in result.publications] == list(range(2500))


async def test_presence_tells_who_is_there(api: Call, open_client: OpenClient, name: str) -> None:
    ada, bob = await open_client("ada", info={"a": 1}), await open_client("bob")
    for client in (ada, bob):
        await client.subscribe(f"chat:{name}")

    async def counted() -> bool:
        stats = await api(cent.PresenceStatsRequest(channel=f"chat:{name}"))
        return bool((stats.num_clients, stats.num_users) == (2, 2))

    await eventually(counted, "their worker has told Redis")
    presence = (await api(cent.PresenceRequest(channel=f"chat:{name}"))).presence
    assert {client: entry.user for client, entry in presence.items()} == {ada.id: "ada", bob.id: "bob"}
    assert presence[ada.id].conn_info == {"a": 1}


async def test_info_lists_every_worker(api: Call, open_client: OpenClient) -> None:
    await open_client("ada")

    async def clients() -> int:
        nodes = (await api(cent.InfoRequest())).nodes
        if [node.name.rpartition("/")[2] for node in nodes] != ["edge-1", "edge-2"]:
            return 0  # one of them has only just started
        assert {node.version for node in nodes} == {__version__}
        return sum(node.num_clients for node in nodes)

    async with asyncio.timeout(DEADLINE_S):
        while not await clients():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_of_many_kinds(api: Call, name: str, parallel: bool) -> None:
    result = await api(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel=f"chat:{name}", data=1),
                cent.BroadcastRequest(channels=["news"], data=1),
                cent.PresenceStatsRequest(channel=f"chat:{name}"),
                cent.HistoryRequest(channel="chat:empty", limit=5),
                cent.PresenceRequest(channel=f"chat:{name}"),
                cent.InfoRequest(),
            ],
            parallel=parallel,
        )
    )
    kinds = [type(reply).__name__ for reply in result.replies]
    assert kinds == [
        *("PublishResult", "BroadcastResult", "PresenceStatsResult", "HistoryResult", "PresenceResult", "InfoResult")
    ]
    assert result.replies[0].offset == 1


# What workers do when they hear of it


async def test_subscribe_and_unsubscribe_move_a_user(api: Call, open_client: OpenClient, name: str) -> None:
    client, other = await open_client(name), await open_client("other")
    override = cent.ChannelOptionsOverride(join_leave=cent.BoolValue(value=False))
    request = {"user": name, "channel": f"chat:{name}", "data": {"hello": 1}, "info": {"role": "admin"}}
    await api(cent.SubscribeRequest(**request, override=override))
    push = await client.wait(lambda: [push for push in client.pushes if "subscribe" in push], "the subscription")
    assert (push[0]["channel"], push[0]["subscribe"]["data"]) == (f"chat:{name}", {"hello": 1})
    await api(cent.PublishRequest(channel=f"chat:{name}", data="in"))
    assert await client.wait_data(f"chat:{name}") == ["in"]
    await api(cent.UnsubscribeRequest(user=name, channel=f"chat:{name}"))
    push = await client.wait(lambda: [push for push in client.pushes if "unsubscribe" in push], "its end")
    assert push[0]["unsubscribe"]["code"] == 2000
    assert [push for push in other.pushes if "subscribe" in push or "unsubscribe" in push] == []


async def test_subscribe_recovers_what_was_published_since(api: Call, open_client: OpenClient, name: str) -> None:
    first = await api(cent.PublishRequest(channel=f"chat:{name}", data=1))
    await api(cent.PublishRequest(channel=f"chat:{name}", data=2))
    client = await open_client(name)
    since = cent.StreamPosition(offset=1, epoch=first.epoch)
    await api(cent.SubscribeRequest(user=name, channel=f"chat:{name}", recover_since=since))
    assert await client.wait_data(f"chat:{name}") == [2]


async def test_disconnect_closes_a_users_connections_but_those_listed(
    api: Call, open_client: OpenClient, name: str
) -> None:
    kept, closed, other = await open_client(name), await open_client(name), await open_client("other")
    with_code = cent.Disconnect(code=4501, reason="account closed")
    await api(cent.DisconnectRequest(user=name, whitelist=[kept.id], disconnect=with_code))
    assert await closed.wait_closed() == (4501, "account closed")
    await api(cent.DisconnectRequest(user=name, client=kept.id))
    assert (await kept.wait_closed())[0] == 3503
    assert other.open_still


async def test_refresh_ends_connections_or_lets_them_live(api: Call, open_client: OpenClient, name: str) -> None:
    ended, lives = await open_client(name), await open_client(name)
    await api(cent.RefreshRequest(user=name, client=ended.id, expired=True))
    assert (await ended.wait_closed())[0] == 3005
    await api(cent.RefreshRequest(user=name, client=lives.id, expire_at=int(time.time()) + 3600))
    push = await lives.wait(lambda: [push for push in lives.pushes if "refresh" in push], "the refresh")
    assert push[0]["refresh"]["expires"] is True
    assert 3500 < push[0]["refresh"]["ttl"] <= 3600


async def test_channels_counts_the_clients_of_all_workers(api: Call, open_client: OpenClient, name: str) -> None:
    clients = [await open_client("ada") for _ in range(6)]
    for client in clients:
        await client.subscribe(f"chat:{name}")
    await clients[0].subscribe(f"other-{name}")
    channels = (await api(cent.ChannelsRequest(pattern=f"chat:{name}"))).channels
    assert {channel: found.num_clients for channel, found in channels.items()} == {f"chat:{name}": 6}
    assert f"other-{name}" in (await api(cent.ChannelsRequest())).channels


async def refused(gateway: Gateway, token: str) -> int | None:
    """The code that a client with that token is closed with."""
    client = await Client.open(gateway.url)
    await client.post({"connect": {"token": token}})
    code, _ = await client.wait_closed()
    await client.aclose()
    return code


async def test_a_users_tokens_so_far_are_refused_and_their_connections_closed(
    api: Call, gateway: Gateway, open_client: OpenClient, name: str
) -> None:
    client, other = await open_client(name), await open_client("other")
    later = int(time.time()) + 60
    await api(cent.InvalidateUserTokensRequest(user=name, issued_before=later))
    assert (await client.wait_closed())[0] == 3500
    assert await refused(gateway, gateway.token(name)) == 3500
    assert other.open_still
    assert await code_of(api(cent.InvalidateUserTokensRequest(user=name, channel="news"))) == 108


async def test_one_token_is_refused_and_its_connection_closed(
    api: Call, gateway: Gateway, open_client: OpenClient, name: str
) -> None:
    token = encode_token({"sub": name, "jti": name, "exp": int(time.time()) + 600})
    revoked, other = await Client.open(gateway.url), await open_client(name)
    await revoked.connect(token)
    await api(cent.RevokeTokenRequest(uid=name, expire_at=int(time.time()) + 600))
    assert (await revoked.wait_closed())[0] == 3500
    await revoked.aclose()
    assert await refused(gateway, token) == 3500
    assert other.open_still
