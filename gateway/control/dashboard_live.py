"""The dashboard's state, made once for everybody who looks, and published over the gateway's own WebSocket.

Theory of operation. The page asks for a token (`ticket`) whose `channels` claim has this dashboard's own channel, and
connects to the public port like any client. From then on the state is published to that channel once a second; Redis
says how many workers listen to it, and when none has for a while, publishing ends until somebody asks again. Where the
WebSocket cannot be reached, or there is no secret to sign tokens with, the page asks for the state by HTTP.

The channel starts with `@`, so no client can subscribe to it, publish to it or read it, whatever its namespace allows
and whatever subscription token it has; only a connection token that names it puts a client there, and the name is
random. The rule that is easiest to break: where tokens are not checked (`auth.insecure`) nothing may be published,
because there everybody may be everywhere.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from gateway.clock import Clock
from gateway.control.bus import Bus
from gateway.control.caches import CacheReport
from gateway.control.dashboard_recent import INTERVAL_S, Curves, Recent
from gateway.control.dashboard_state import NO_RELAYS, DashboardState, dashboard_state
from gateway.control.fleet import Fleet
from gateway.errors import BrokerError
from gateway.log import get_logger
from gateway.metrics import CounterTable
from gateway.relay.counters import RelayReports
from protocol.control_messages import DisconnectClients, encode_control
from protocol.redis_contract import control_channel

TICKET_S: Final = 60.0
"""Time that a token is good for; the page fetches the next one in time, as long as its session lasts."""
PATIENCE_S: Final = 15.0
"""Time that publishing goes on with nobody listening: a page may be about to connect, Redis about to come back."""
USER: Final = "@dashboard"
"""User id of pages, before the id of their session."""

SignTicket = Callable[[str, float, tuple[str, ...]], str]
"""A connection token for a user, good for that many seconds, with these channels."""


class Ticket(msgspec.Struct):
    """With what a page connects to the public port."""

    token: str
    channel: str


class Dashboard:
    """The state of this gateway. `run` must run for it to be live."""

    def __init__(
        self,
        table: CounterTable,
        fleet: Fleet,
        bus: Bus,
        clock: Clock,
        *,
        publication_bytes: int,
        sign: SignTicket | None = None,
        caches: CacheReport | None = None,
        relays: RelayReports = NO_RELAYS,
    ) -> None:
        """`publication_bytes`: what workers take from Redis at most; a larger state is not published. `sign`: None =
        there is no secret, or tokens are not checked: then it never is."""
        self._table = table
        self._fleet = fleet
        self._bus = bus
        self._clock = clock
        self._max_bytes = publication_bytes
        self._sign = sign
        self._caches = caches
        self._relays = relays
        self._recent = Recent(table)
        self._channel = f"@dashboard.{secrets.token_hex(8)}"
        self._publish_until_s = 0.0
        self._log = get_logger()
        self._document: tuple[float, bytes] = (-1.0, b"")

    @property
    def is_published(self) -> bool:
        """Whether pages can have it over the WebSocket at all."""
        return self._sign is not None

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks who can have it that way."""
        return self._clock.monotonic() < self._publish_until_s

    async def run(self) -> None:
        """Look at the counters each second, and publish while somebody looks. Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._note_on())
            group.create_task(self._publish_on())  # by itself: a Redis that is away must not stop the looking

    def note(self) -> None:
        """Look at the counters."""
        self._recent.note(self._clock.monotonic(), self._clock.time())

    def state(self) -> DashboardState:
        """The state at this moment."""
        caches = self._caches.state() if self._caches is not None else []
        now = (self._clock.monotonic(), self._clock.time())
        return dashboard_state(self._table, self._fleet, self._recent, *now, caches=caches, relays=self._relays)

    def document(self) -> bytes:
        """The state as JSON, made anew at most twice a second, however many ask."""
        now = self._clock.monotonic()
        if not 0 <= now - self._document[0] < INTERVAL_S / 2:
            self._document = (now, msgspec.json.encode(self.state()))
        return self._document[1]

    def curves(self) -> Curves:
        """The last minutes."""
        return self._recent.curves()

    def ticket(self, session: str) -> Ticket | None:
        """A token for the page of a session, and publishing begins; None = pages must ask by HTTP."""
        if self._sign is None:
            return None
        self.somebody_looks()
        return Ticket(self._sign(_user(session), TICKET_S, (self._channel,)), self._channel)

    def somebody_looks(self) -> None:
        """Publish, for a while at least."""
        if self._sign is not None:
            self._publish_until_s = self._clock.monotonic() + PATIENCE_S

    def forget(self, session: str) -> None:
        """Close the WebSockets of a session that has ended. Redis away: their tokens end within a minute anyway."""
        if self._sign is None:
            return
        payload = encode_control(DisconnectClients(user=_user(session)))
        try:
            self._bus.commands.submit("PUBLISH", control_channel(self._bus.prefix), payload, size=len(payload))
        except BrokerError as error:
            self._log.debug("dashboard page not disconnected", error=str(error))

    async def _note_on(self) -> NoReturn:
        while True:
            self.note()
            await asyncio.sleep(INTERVAL_S)

    async def _publish_on(self) -> NoReturn:
        while True:
            if self.is_watched:
                await self.publish()
            await asyncio.sleep(INTERVAL_S)

    async def publish(self) -> None:
        """Publish once; somebody looks if anybody has got it. A Redis that is away is said by the state itself."""
        document = self.document()
        if len(document) > self._max_bytes:
            return
        try:
            if await self._bus.publish(self._channel, document):
                self.somebody_looks()
        except BrokerError as error:
            self._log.debug("dashboard not published", error=str(error))


def _user(session: str) -> str:
    """User id of the pages of one session."""
    return f"{USER}-{session}"
