"""What backends tell the gateway to do with its clients: disconnect, unsubscribe, subscribe, refresh, revoke, survey.

Theory of operation. Every worker hears every message of the control channel and acts on its own clients. A message is
decoded where it arrives and carried out by `run`, one after the other and in slices, so that "disconnect everybody who
…" does not keep the loop from its other work. Revocations are also stored in Redis: they are read at the start and
whenever Redis is back, because messages that were published meanwhile are lost.

The rule that is easiest to break: a client may be gone, or have connected anew, whenever something was awaited.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from fnmatch import translate
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import UNSET, Raw

from gateway.errors import BrokerError
from gateway.metrics import names
from gateway.session.outcomes import Refusal
from gateway.session.placing import place
from gateway.tasks import Steps
from protocol.codes import CONNECTION_EXPIRED, INVALID_TOKEN, UNSUBSCRIBED_BY_SERVER, DisconnectCode
from protocol.control_messages import (
    SURVEY_PAGE,
    ControlMessage,
    DisconnectClients,
    RefreshClients,
    Revoked,
    SubscribeClients,
    Survey,
    SurveyPage,
    UnsubscribeClients,
    decode_control,
    encode_page,
)
from protocol.errors import EnvelopeError
from protocol.redis_contract import survey_key
from protocol.replies import Push, Refresh, Reply

if TYPE_CHECKING:
    from gateway.session.context import SessionContext
    from gateway.session.session import Session

SLICE: Final = 200
"""Clients that are acted on before the loop turns to other work."""
WAITING: Final = 10_000
"""Messages that wait to be carried out; past it the newest is dropped, counted and logged."""
SURVEY_TTL_S: Final = 60
"""Time that the answer to a survey waits to be fetched."""
RETRY_S: Final = 1.0
"""Time until revocations are read again after that failed."""


class ReadsRevocations(Protocol):
    """What is needed of `gateway.broker.RevocationStore`."""

    def read(self) -> AsyncIterator[list[Revoked]]: ...


class RunsCommands(Protocol):
    """What is needed of `gateway.broker.CommandQueue`."""

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]: ...


class Control:
    """Carries out control messages on the clients of this worker."""

    def __init__(
        self, context: SessionContext, revoked: ReadsRevocations, commands: RunsCommands, *, worker: str
    ) -> None:
        """`worker`: what this worker is called in answers to surveys; no other is called so."""
        self._context = context
        self._worker = worker
        self._revoked = revoked
        self._commands = commands
        self._waiting: deque[ControlMessage] = deque()
        self._wake = asyncio.Event()
        self._read_again = asyncio.Event()
        self._log = context.log

    def received(self, payload: bytes) -> None:
        """One message of the control channel. What is none is counted and logged; never raises."""
        counters = self._context.counters
        counters[names.CONTROL_MESSAGES] += 1
        try:
            message = decode_control(payload)
            if len(self._waiting) >= WAITING:
                raise EnvelopeError(f"{WAITING} messages wait to be carried out")
        except EnvelopeError as error:
            counters[names.DROPPED_CONTROL] += 1
            self._log.warning("control message dropped", error=f"{error!s:.200}", payload_bytes=len(payload))
            return
        self._waiting.append(message)
        self._wake.set()

    def redis_is_back(self) -> None:
        """Messages may have been missed: read the revocations again."""
        self._read_again.set()

    async def run(self) -> None:
        """Carry out messages until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_revocations())
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._carry_out(self._waiting.popleft())

    async def read_revocations(self) -> bool:
        """Take over what Redis remembers. False = it is away."""
        revocations = self._context.revocations
        news = False
        try:
            async for chunk in self._revoked.read():
                for revoked in chunk:
                    news |= revocations.add(revoked)
        except BrokerError as error:
            self._log.warning("revocations not read", error=str(error))
            return False
        if news:
            await self._end_revoked(tuple(self._context.clients.values()))
        return True

    async def _keep_revocations(self) -> None:
        while True:
            await self._read_again.wait()
            self._read_again.clear()
            if not await self.read_revocations():
                await asyncio.sleep(RETRY_S)
                self._read_again.set()

    async def _carry_out(self, message: ControlMessage) -> None:
        match message:
            case Revoked():
                if self._context.revocations.add(message):
                    own = self._context.users.sessions(message.user)
                    everybody = message.token_id or not message.user
                    await self._end_revoked(tuple(self._context.clients.values()) if everybody else own)
            case Survey():
                await self._answer(message)
            case DisconnectClients():
                await self._each(message, lambda session: _disconnect(session, message))
            case UnsubscribeClients():
                await self._each(message, lambda session: _unsubscribe(session, message))
            case SubscribeClients():
                await self._each(message, lambda session: self._subscribe(session, message))
            case RefreshClients():
                await self._each(message, lambda session: _refresh(session, message))

    async def _each(
        self,
        message: DisconnectClients | UnsubscribeClients | SubscribeClients | RefreshClients,
        act: Callable[[Session], None],
    ) -> None:
        client = message.client or message.session
        named: tuple[Session, ...]
        if client:
            session = self._context.clients.get(client)
            named = (session,) if session is not None and message.user in ("", session.user) else ()
        else:
            named = self._context.users.sessions(message.user)
        await _in_slices(named, act)

    async def _end_revoked(self, sessions: Iterable[Session]) -> None:
        await _in_slices(sessions, self._end_if_revoked)

    def _end_if_revoked(self, session: Session) -> None:
        concern = self._context.revocations.concern
        if concern(session.token_id, session.user, session.issued_at):
            session.disconnect(INVALID_TOKEN, "token is revoked")
            return
        for subscription in tuple(session.subscriptions.values()):
            token = subscription.token
            if token is not None and concern(token.token_id, session.user, token.issued_at):
                session.end_subscription(subscription, UNSUBSCRIBED_BY_SERVER)
        session.outlet.flush()

    def _subscribe(self, session: Session, message: SubscribeClients) -> None:
        def ended(error: BaseException | None) -> None:
            if isinstance(error, Refusal):
                self._log.warning(
                    "not subscribed by the server", client=session.client, channel=message.channel, error=str(error)
                )
            elif error is not None:
                self._context.counters[names.ERRORS] += 1
                self._log.error("subscribing failed", client=session.client, exc_info=error)

        Steps(place(session, message), ended).start()

    async def _answer(self, survey: Survey) -> None:
        """Push the channels of this worker to where the survey says."""
        if not survey.reply_to.startswith(survey_key(self._context.config.redis.prefix, "").decode()):
            self._log.warning("survey refused", reply_to=f"{survey.reply_to:.100}")
            return
        matches = re.compile(translate(survey.pattern)).match
        found = ((name, count) for name, count in self._context.hub.subscribers() if matches(name))
        try:
            while True:
                page = dict(islice(found, SURVEY_PAGE))
                last = len(page) < SURVEY_PAGE
                payload = encode_page(SurveyPage(worker=self._worker, channels=page, last=last))
                pushed = self._commands.submit("RPUSH", survey.reply_to, payload, size=len(payload))
                self._commands.submit("EXPIRE", survey.reply_to, SURVEY_TTL_S)
                await pushed
                if last:
                    return
        except BrokerError as error:
            self._log.warning("survey not answered", error=str(error))


async def _in_slices(sessions: Iterable[Session], act: Callable[[Session], None]) -> None:
    for number, session in enumerate(sessions, 1):
        if session.closed_with is None:
            act(session)
        if number % SLICE == 0:
            await asyncio.sleep(0)


def _disconnect(session: Session, message: DisconnectClients) -> None:
    if session.client not in message.whitelist:
        session.disconnect(DisconnectCode(message.code, message.reason), "control message")


def _unsubscribe(session: Session, message: UnsubscribeClients) -> None:
    subscription = session.subscriptions.get(message.channel)
    if subscription is not None:
        session.end_subscription(subscription, UNSUBSCRIBED_BY_SERVER)
        session.outlet.flush()


def _refresh(session: Session, message: RefreshClients) -> None:
    if message.expired:
        session.disconnect(CONNECTION_EXPIRED, "control message")
        return
    session.expires_at = message.expire_at or None
    if message.info is not UNSET:
        session.info = Raw(bytes(message.info))
        session.described_anew(*session.subscriptions.values())
    expires, ttl = session.time_left(session.expires_at)
    session.reply(Reply(push=Push(refresh=Refresh(expires=expires, ttl=ttl))))
    session.outlet.flush()
