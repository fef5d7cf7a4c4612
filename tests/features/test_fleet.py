"""Two gateways on one bus: what is said to one is done by both, and clients do not see which of them they have."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import Client, Json
from tests.support.gateway import Gateway, encode_token, serving
from tests.support.redis_fleet import FLEET_TIMEOUT_S, redis_fleet
from tests.support.redis_server import redis_server
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.timeout(FLEET_TIMEOUT_S)

CONFIG: dict[str, Any] = {
    "delivery": {"presence_lease_s": 5.0},
    "limits": {"connections_per_user": 2},
    "namespaces": {
        "kept": {"history_size": 100, "history_ttl_s": 60, "recover": True},
        "room": {"presence": True, "join_leave": True},
        "default": {"publish_by": "subscriber"},
    },
}
TIMES = {"connect_timeout_s": 1.0, "probe_interval_s": 1.0, "canary_interval_s": 0.2}

Fleet = tuple[Gateway, Gateway]
Open = Callable[..., Awaitable[Client]]


@pytest.fixture(scope="module", params=["single", "sentinel", "cluster"])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Two gateways on one server, on a master that Sentinels name, and on a cluster."""
    with ExitStack() as stack:
        if request.param == "single":
            url = stack.enter_context(redis_server()).url
        else:
            url = stack.enter_context(redis_fleet(request.param)).url
        here, there = (stack.enter_context(serving(CONFIG | {"redis": {"url": url} | TIMES})) for _ in range(2))
        yield here, there


@pytest.fixture
async def open_on(fleet: Fleet) -> AsyncIterator[Open]:
    """`open_on(gateway, "ada")` connects as Ada, `open_on(gateway, token=…)` with that token."""
    for gateway in fleet:
        await wait_until(lambda gateway=gateway: gateway.ready()[0] == 200, "both gateways are ready")
    opened: list[Client] = []

    async def open_on(gateway: Gateway, user: str = "", *, token: str = "") -> Client:
        opened.append(await Client.open(gateway.url))
        await opened[-1].connect(token or gateway.token(user))
        return opened[-1]

    yield open_on
    for client in opened:
        await client.aclose()


def result(gateway: Gateway, method: str, **request: Any) -> Json:
    """Of a call to the HTTP API that must succeed."""
    answer: Json = gateway.call_api(method, **request).json()
    assert "error" not in answer, answer
    found: Json = answer["result"]
    return found


async def wait_result(gateway: Gateway, expected: Callable[[Json], bool], method: str, **request: Any) -> None:
    await wait_until(lambda: expected(result(gateway, method, **request)), f"{method} {request}")


async def test_what_a_client_or_a_backend_publishes_reaches_clients_of_both(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    clients = [await open_on(here, "ada"), await open_on(there, "bob")]
    for client in clients:
        await client.subscribe("news")
    result(here, "publish", channel="news", data="from here")
    result(there, "publish", channel="news", data="from there")
    assert await clients[1].call(publish={"channel": "news", "data": "from bob"}) == {}
    for client in clients:
        await client.wait_data("news", 3)
        assert set(client.data("news")) == {"from here", "from there", "from bob"}
    result(here, "publish", channel="#bob", data="to one user")
    assert await clients[1].wait_data("#bob") == ["to one user"]
    result(there, "publish", channel="@all", data="to everyone")
    for client in clients:
        assert (await client.wait_data("@all"))[-1] == "to everyone"


async def test_a_client_recovers_on_the_other_gateway_what_it_has_missed(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    client = await open_on(here, "roamer")
    result(there, "publish", channel="kept:a", data=0)
    position = await client.subscribe("kept:a")
    first = result(there, "publish", channel="kept:a", data=1)
    assert await client.wait_data("kept:a") == [1]
    await client.aclose()
    for number in (2, 3, 4):
        result((here, there)[number % 2], "publish", channel="kept:a", data=number)
    again = await open_on(there, "roamer")
    back = await again.subscribe("kept:a", recover=True, epoch=position["epoch"], offset=first["offset"])
    assert back["recovered"]
    assert [each["data"] for each in back["publications"]] == [2, 3, 4]
    result(here, "publish", channel="kept:a", data=5)
    assert await again.wait_data("kept:a") == [5]
    read = await again.call(history={"channel": "kept:a", "limit": 10})
    assert [each["data"] for each in read["publications"]] == [0, 1, 2, 3, 4, 5]
    for gateway in fleet:
        listed = result(gateway, "history", channel="kept:a", limit=2, reverse=True)
        assert [each["data"] for each in listed["publications"]] == [5, 4]


async def test_an_idempotency_key_counts_on_both(fleet: Fleet) -> None:
    here, there = fleet
    first = result(here, "publish", channel="kept:once", data=1, idempotency_key="k")
    assert result(there, "publish", channel="kept:once", data=2, idempotency_key="k") == first
    assert len(result(there, "history", channel="kept:once", limit=-1)["publications"]) == 1


async def test_presence_joins_and_leaves_are_those_of_both(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    ada = await open_on(here, "ada-p")
    await ada.subscribe("room:a")
    bob = await open_on(there, "bob-p")
    await bob.subscribe("room:a")

    def told(kind: str) -> bool:
        return any(push.get(kind, {}).get("info", {}).get("client") == bob.id for push in ada.pushes)

    await ada.wait(lambda: told("join"), "Ada is told that Bob joins")
    for gateway in fleet:
        await wait_result(gateway, lambda now: now["presence"].keys() == {ada.id, bob.id}, "presence", channel="room:a")
        stats = result(gateway, "presence_stats", channel="room:a")
        assert stats == {"num_clients": 2, "num_users": 2}
    seen = await bob.call(presence={"channel": "room:a"})
    assert seen["presence"][ada.id] == {"user": "ada-p", "client": ada.id}
    await bob.aclose()
    await ada.wait(lambda: told("leave"), "Ada is told that Bob leaves")
    await wait_result(there, lambda now: now["presence"].keys() == {ada.id}, "presence", channel="room:a")


async def test_a_user_has_its_connections_over_both_and_no_more(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    first, _second = await open_on(here, "greedy"), await open_on(there, "greedy")
    for gateway in fleet:
        third = await Client.open(gateway.url)
        await third.post({"connect": {"token": gateway.token("greedy")}})
        assert (await third.wait_closed())[0] == 3504
    await first.aclose()

    async def admitted() -> bool:
        again = await Client.open(there.url)
        try:
            return "connect" in await again.command(connect={"token": there.token("greedy")})
        except ConnectionError:
            return False
        finally:
            await again.aclose()

    deadline = time.monotonic() + DEADLINE_S
    while not await admitted():
        assert time.monotonic() < deadline


async def test_a_revocation_at_one_ends_clients_of_the_other_and_keeps_them_out(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    token = encode_token({"sub": "mallory", "jti": "stolen", "exp": time.time() + 600})
    clients = [await open_on(here, token=token), await open_on(there, token=token)]
    result(here, "revoke_token", uid="stolen", expire_at=time.time() + 600)
    for client in clients:
        assert (await client.wait_closed())[0] == 3500
    for gateway in fleet:
        again = await Client.open(gateway.url)
        await again.post({"connect": {"token": token}})
        assert (await again.wait_closed())[0] == 3500


async def test_what_a_backend_tells_one_both_do(fleet: Fleet, open_on: Open) -> None:
    here, there = fleet
    clients = [await open_on(here, "eve"), await open_on(there, "eve")]
    result(here, "subscribe", user="eve", channel="kept:told")
    for client in clients:
        await client.wait(lambda client=client: any("subscribe" in push for push in client.pushes), "a subscription")
    result(there, "publish", channel="kept:told", data=1)
    for client in clients:
        assert await client.wait_data("kept:told") == [1]
    result(there, "refresh", user="eve", expire_at=int(time.time()) + 1000)
    for client in clients:
        await client.wait(lambda client=client: any("refresh" in push for push in client.pushes), "a refresh")
    result(there, "unsubscribe", user="eve", channel="kept:told")
    for client in clients:
        await client.wait(
            lambda client=client: any("unsubscribe" in push for push in client.pushes), "a push that ends it"
        )
    result(here, "disconnect", user="eve", disconnect={"code": 4501, "reason": "banned"})
    for client in clients:
        assert await client.wait_closed() == (4501, "banned")


async def test_channels_and_info_are_of_both_and_the_dashboard_is_of_its_own(fleet: Fleet, open_on: Open) -> None:
    clients = [await open_on(gateway, "counter") for gateway in fleet]
    for client in clients:
        await client.subscribe("counted")
    for gateway in fleet:
        found = result(gateway, "channels", pattern="count*")
        assert found == {"channels": {"counted": {"num_clients": 2}}}
        await wait_result(gateway, lambda now: len([each for each in now["nodes"] if each["num_clients"]]) == 2, "info")
        assert len({each["uid"] for each in result(gateway, "info")["nodes"]}) == 2
        assert gateway.metric("gateway_clients") == 1
