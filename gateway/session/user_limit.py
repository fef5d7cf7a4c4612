"""`limits.connections_per_user`, in the whole fleet: the new connection is refused, or the oldest makes room (3504).

Redis counts (`gateway.broker.user_places`). When it is away, this worker counts its own connections only: better too
many for a while than nobody. What was entered without Redis is brought there by the next renewal.

The rule that is easiest to break: a place is taken before Redis has answered, and left when the session ends, whatever
became of the question: Redis carries both out in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.broker import Entered
from gateway.clock import Clock
from gateway.errors import BrokerError
from gateway.hub import UserIndex
from gateway.metrics import names
from gateway.session.outcomes import Disconnect
from protocol.codes import CONNECTION_LIMIT

if TYPE_CHECKING:
    from gateway.session.session import Session

LIVES_EVERY_S: Final = 2.0
"""Time between two signs of life."""
RENEW_EVERY_S: Final = 60.0
"""Time in which all places are renewed once, a part with each sign of life."""


class Places(Protocol):
    """What is needed of `gateway.broker.UserPlaces`."""

    def enter(
        self, user: str, client: str, limit: int, *, close_oldest: bool = False, dead: Iterable[str] = ()
    ) -> asyncio.Future[Entered]: ...
    def leave(self, user: str, client: str) -> asyncio.Future[object]: ...
    def renew(self, user: str, clients: Iterable[tuple[str, float]]) -> asyncio.Future[object]: ...
    def live(self) -> asyncio.Future[frozenset[str]]: ...


class _Place(NamedTuple):
    user: str
    client: str
    came_at: float
    number: int


class UserLimit:
    """Holds the limit for the sessions of one worker."""

    def __init__(
        self,
        places: Places,
        users: UserIndex[Session],
        counters: memoryview[int],
        clock: Clock,
        *,
        limit: int,
        close_oldest: bool,
    ) -> None:
        self._places = places
        self._users = users
        self._counters = counters
        self._clock = clock
        self._limit = limit
        self._close_oldest = close_oldest
        self._held: dict[Session, _Place] = {}
        self._entered = 0
        self._due: list[str] = []  # users that are still to be renewed in this round
        self._at_once = 0

    async def enter(self, session: Session, user: str, client: str) -> None:
        """Take a place for a session that connects. Raises Disconnect(3504). Waits for futures only."""
        self.leave(session)
        if not user:
            return
        self._entered += 1
        self._held[session] = _Place(user, client, self._clock.time(), self._entered)
        try:
            admitted = await self._ask(user, client)
        except BrokerError:
            admitted = self._count_here(user)
        if not admitted:
            self._held.pop(session, None)
            self._counters[names.USER_REFUSED] += 1
            raise Disconnect(CONNECTION_LIMIT, f"user {user!a:.80} has {self._limit} connections")

    def leave(self, session: Session) -> None:
        """The session ends. Harmless when it has no place."""
        place = self._held.pop(session, None)
        if place is not None:
            with contextlib.suppress(BrokerError):  # it is forgotten with its lease
                self._places.leave(place.user, place.client)

    async def run(self) -> None:
        """Say that this worker lives, and renew what it holds, until cancelled."""
        while True:
            with contextlib.suppress(BrokerError):  # next time
                await self._places.live()
                self._renew_some()
            await asyncio.sleep(LIVES_EVERY_S)

    async def _ask(self, user: str, client: str) -> bool:
        entered = await self._places.enter(user, client, self._limit)
        if not entered.admitted:
            dead = entered.workers - await self._places.live()
            entered = await self._places.enter(user, client, self._limit, close_oldest=self._close_oldest, dead=dead)
        self._counters[names.USER_CLOSED_OLDEST] += entered.closed
        return entered.admitted

    def _count_here(self, user: str) -> bool:
        """Redis is away. Whether there is room among the connections to this worker."""
        others = [each for each in self._users.sessions(user) if each in self._held]
        if len(others) < self._limit:
            return True
        if self._close_oldest:
            min(others, key=lambda each: self._held[each].number).disconnect(CONNECTION_LIMIT)
            self._counters[names.USER_CLOSED_OLDEST] += 1
        return self._close_oldest

    def _renew_some(self) -> None:
        """Renew some of the users. Raises BrokerBusy."""
        if not self._due:
            self._due = list({place.user for place in self._held.values()})
            self._at_once = -(-len(self._due) // max(1, round(RENEW_EVERY_S / LIVES_EVERY_S)))
        for _ in range(min(self._at_once, len(self._due))):
            user = self._due.pop()
            held = [self._held[each] for each in self._users.sessions(user) if each in self._held]
            if held:
                self._places.renew(user, [(place.client, place.came_at) for place in held])
