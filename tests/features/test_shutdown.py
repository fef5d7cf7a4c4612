"""How a gateway ends. Real signals to real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient
from tests.support.client import Client
from tests.support.gateway import Gateway, serving
from tests.support.processes import wait_gone
from tests.support.waiting import wait_until

ONE_WORKER = pytest.mark.parametrize("gateway", [{"limits": {"close_timeout_s": 1.0}}], indirect=True, ids=["one"])


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """One for each test: they end it."""
    with serving(getattr(request, "param", {"server": {"workers": 2}})) as gateway:
        yield gateway


@pytest.mark.parametrize("gateway", [{"server": {"workers": 2, "drain_window_s": 1.0}}], indirect=True, ids=["two"])
async def test_sigterm_closes_every_client_with_3001_one_by_one_and_exits_with_0(
    gateway: Gateway, open_client: OpenClient
) -> None:
    clients = [await open_client(f"user-{number}") for number in range(10)]
    waiting = asyncio.gather(*(client.wait_closed() for client in clients))
    folder = gateway.redis_folder
    assert folder.exists()
    await asyncio.to_thread(gateway.stop)
    assert set(await waiting) == {(3001, "shutdown")}
    assert sum(line["clients"] for line in gateway.logged("drained")) == 10
    assert len(gateway.logged("connection closed", code=3001, closed_by="gateway")) == 10
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        await Client.open(gateway.url)


@ONE_WORKER
async def test_sigterm_waits_for_nobody_who_does_not_answer(gateway: Gateway, open_client: OpenClient) -> None:
    """A client that is stopped in its tracks (its machine sleeps) is cut off after the close time-out."""
    client = await open_client("sleeper")
    client.fall_asleep()
    await asyncio.to_thread(gateway.stop)
    client.wake_up()
    (line,) = gateway.logged("connection closed")
    assert line["code"] == 3001


async def test_nothing_outlives_a_supervisor_that_is_killed(gateway: Gateway, open_client: OpenClient) -> None:
    clients = [await open_client(f"user-{number}") for number in range(4)]
    children = gateway.look_around()[1:]
    assert len(children) >= 5, "two edge workers, control, the guard, redis-server"
    folder = gateway.redis_folder
    assert folder.exists()
    gateway.process.kill()
    gateway.process.wait()
    for client in clients:
        assert (await client.wait_closed())[0] in (3001, 1006)
    await wait_gone(children)
    await wait_until(lambda: not folder.exists(), "the folder of the embedded Redis is gone")
