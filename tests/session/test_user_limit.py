"""Connections per user, as sessions see it: with Redis, without it, and in any order of events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.broker import Entered
from gateway.errors import BrokerError, BrokerUnavailable
from gateway.metrics import names
from gateway.session import user_limit as module
from tests.support.session import SessionWorld
from tests.support.waiting import wait_until


class FakePlaces:
    """A Redis of one worker's. `away` = it does not answer; `hold` = not yet."""

    def __init__(self) -> None:
        self.members: dict[str, list[str]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.away = False
        self.held: list[asyncio.Future[Any]] | None = None
        self.alive: frozenset[str] = frozenset({"w"})

    def _answer(self, value: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.away:
            done.set_exception(BrokerUnavailable("away"))
            done.exception()
        elif self.held is not None:
            self.held.append(done)
        else:
            done.set_result(value)
        return done

    def enter(
        self, user: str, client: str, limit: int, *, close_oldest: bool = False, dead: Iterable[str] = ()
    ) -> asyncio.Future[Entered]:
        self.calls.append(("enter", user, close_oldest, frozenset(dead)))
        members = self.members.setdefault(user, [])
        members[:] = [member for member in members if member.split()[0] not in dead]
        over = len(members) + 1 - limit
        if over > 0 and not close_oldest:
            return self._answer(Entered(False, 0, frozenset(member.split()[0] for member in members)))
        del members[: max(0, over)]
        members.append(f"w {client}")
        return self._answer(Entered(True, max(0, over), frozenset()))

    def leave(self, user: str, client: str) -> asyncio.Future[object]:
        self.calls.append(("leave", user))
        if f"w {client}" in self.members.get(user, []):
            self.members[user].remove(f"w {client}")
        return self._answer(None)

    def renew(self, user: str, clients: Iterable[tuple[str, float]]) -> asyncio.Future[object]:
        self.calls.append(("renew", user, len(list(clients))))
        return self._answer(None)

    def live(self) -> asyncio.Future[frozenset[str]]:
        return self._answer(self.alive)


def make(policy: str = "refuse_new", limit: int = 1) -> tuple[SessionWorld, FakePlaces]:
    places = FakePlaces()
    limits = {"connections_per_user": limit, "user_limit_policy": policy}
    return SessionWorld(places=places, limits=limits), places


async def test_the_new_connection_is_refused_for_good() -> None:
    world, places = make()
    first = await world.connected("ada")
    second = world.client()
    await second.frame({"id": 1, "connect": {"token": world.token("ada")}})
    assert second.closed == 3504
    assert first.closed is None
    assert world.counters[names.USER_REFUSED] == 1
    first.session.closed("gone")
    assert (await world.connected("ada")).closed is None
    assert len(places.members["ada"]) == 1


async def test_whose_worker_is_dead_does_not_count() -> None:
    world, places = make()
    places.members["ada"] = ["dead x"]
    await world.connected("ada")
    assert places.calls[-1] == ("enter", "ada", False, frozenset({"dead"}))


async def test_the_oldest_makes_room() -> None:
    world, places = make("close_oldest")
    await world.connected("ada")
    await world.connected("ada")
    assert [call[2] for call in places.calls] == [False, False, True], "asked, who lives is looked up, and asked again"
    assert world.counters[names.USER_CLOSED_OLDEST] == 1


@pytest.mark.parametrize(
    ("policy", "closed"), [("refuse_new", [None, None, 3504]), ("close_oldest", [3504, None, None])]
)
async def test_without_redis_the_worker_s_own_connections_count(policy: str, closed: list[int | None]) -> None:
    world, places = make(policy, limit=2)
    places.away = True
    clients = [await world.connected("ada"), await world.connected("ada"), world.client()]
    await clients[2].frame({"id": 1, "connect": {"token": world.token("ada")}})
    assert [client.closed for client in clients] == closed
    assert (await world.connected("bob")).closed is None


async def test_who_leaves_while_redis_is_asked_leaves_nothing() -> None:
    world, places = make()
    places.held = []
    client = world.client()
    await client.frame({"id": 1, "connect": {"token": world.token("ada")}})
    assert len(places.members["ada"]) == 1
    client.session.closed("connection lost")
    assert places.members["ada"] == []
    places.held[0].set_result(Entered(True, 0, frozenset()))
    await asyncio.sleep(0)
    assert client.outlet.writes == []


async def test_a_connect_that_is_repeated_takes_one_place() -> None:
    world, places = make()
    world.refuses.add("#ada")
    client = world.client()
    assert (await client.ask(connect={"token": world.token("ada")}))["error"]["code"] == 100
    world.refuses.clear()
    await client.connect("ada")
    assert len(places.members["ada"]) == 1


async def test_anonymous_clients_are_not_counted() -> None:
    places = FakePlaces()
    world = SessionWorld(places=places, auth={"anonymous": True}, limits={"connections_per_user": 1})
    for _ in range(3):
        assert "connect" in await world.client().ask(connect={})
    assert places.calls == []


async def test_what_is_held_is_renewed_once_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIVES_EVERY_S", 0.001)
    monkeypatch.setattr(module, "RENEW_EVERY_S", 0.005)
    world, places = make(limit=2)
    for user in ("a", "b", "b", "c", "d", "e", "f"):
        await world.connected(user)
    gone = await world.connected("gone")
    gone.session.closed("gone")
    places.calls.clear()
    limit = world.context.user_limit
    assert limit is not None
    running = asyncio.get_running_loop().create_task(limit.run())
    try:
        await wait_until(lambda: len(places.calls) >= 18, "three rounds")
        assert sorted(places.calls[:6]) == [("renew", user, 2 if user == "b" else 1) for user in "abcdef"]
        assert sorted(places.calls[6:12]) == sorted(places.calls[:6])
        places.away = True
        before = len(places.calls)
        await asyncio.sleep(0.02)
        assert len(places.calls) == before, "nothing is asked of a Redis that does not answer"
        places.away = False
        await wait_until(lambda: len(places.calls) > before, "it goes on when Redis is back")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_redis_that_takes_no_more_commands_is_a_redis_that_is_away() -> None:
    world, places = make()

    def busy(*_: Any, **__: Any) -> asyncio.Future[Entered]:
        raise BrokerError("busy")

    places.enter = busy  # type: ignore[method-assign]
    first, second = await world.connected("ada"), world.client()
    await second.frame({"id": 1, "connect": {"token": world.token("ada")}})
    assert (first.closed, second.closed) == (None, 3504)
