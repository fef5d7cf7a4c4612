"""How many connections each user has in the whole fleet, as Redis knows it.

One sorted set for each user: a member for each connection, with the worker that has it. One script counts and enters
(`lua/user_enter.lua`), so two connections never take the same last place. Workers renew what they have from time to
time, which also brings back what Redis has lost. What a dead worker has left is found by its lease: workers say every
few seconds that they live, and only when a user has no room left is it asked who does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gateway.broker.commands import Argument, CommandQueue
from gateway.broker.scripts import Script, converted
from protocol.redis_contract import control_channel, user_places_key, user_workers_key

PLACES_TTL_S: Final = 300
"""Life of a user's connections in Redis from the last one that was entered or renewed."""
WORKER_LEASE_S: Final = 6.0
"""Time after which a worker that says nothing is dead."""


class Entered(NamedTuple):
    """The answer to `UserPlaces.enter`."""

    admitted: bool
    closed: int
    """Older connections that are closed for it."""
    workers: frozenset[str]
    """When not admitted: who has the others."""


class UserPlaces:
    """Enters and counts. Every call raises BrokerBusy at once, every future another BrokerError."""

    def __init__(self, commands: CommandQueue, *, prefix: str, place: str, token: str) -> None:
        """`place`: what the one worker is called that can be there at a time; `token`: which one of them this is."""
        self._commands = commands
        self._prefix = prefix
        self._place = place
        self._token = token
        self._enter = Script("user_enter")
        self._lives = Script("worker_lives")

    def enter(
        self, user: str, client: str, limit: int, *, close_oldest: bool = False, dead: Iterable[str] = ()
    ) -> asyncio.Future[Entered]:
        """One more connection of `user`, if there is room. `dead`: workers whose connections do not count."""
        policy = "close_oldest" if close_oldest else ""
        keys = (user_places_key(self._prefix, user),)
        control = control_channel(self._prefix)
        new: tuple[Argument, ...] = (self._member(client), limit, PLACES_TTL_S * 1000)
        arguments = (*new, policy, control, user, *dead)
        return converted(self._enter.submit(self._commands, keys, arguments), _entered)

    def leave(self, user: str, client: str) -> asyncio.Future[Any]:
        return self._commands.submit("ZREM", user_places_key(self._prefix, user), self._member(client))

    def renew(self, user: str, clients: Iterable[tuple[str, float]]) -> asyncio.Future[Any]:
        """They are still there: ids, and when they came (seconds since 1970)."""
        key = user_places_key(self._prefix, user)
        pairs = [each for client, at in clients for each in (int(at * 1000), self._member(client))]
        self._commands.submit("ZADD", key, "NX", *pairs)
        return self._commands.submit("PEXPIRE", key, PLACES_TTL_S * 1000)

    def live(self) -> asyncio.Future[frozenset[str]]:
        """Say that this worker lives; all that do."""
        arguments = (self._place, self._token, int(WORKER_LEASE_S * 1000))
        lives = self._lives.submit(self._commands, (user_workers_key(self._prefix),), arguments)
        return converted(lives, lambda workers: frozenset(worker.decode() for worker in workers))

    def _member(self, client: str) -> str:
        return f"{self._place}/{self._token} {client}"


def _entered(answer: list[Any]) -> Entered:
    if answer[0]:
        return Entered(True, int(answer[1]), frozenset())
    return Entered(False, 0, frozenset(member.decode().partition(" ")[0] for member in answer[1:]))
