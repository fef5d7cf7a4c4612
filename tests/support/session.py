"""One session with its surroundings faked: what a client sends goes in as JSON, what it is answered comes out so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt

from gateway.auth import KeySet, Revocations, TokenVerifier
from gateway.backend import NOBODY, Backend
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.errors import BrokerError, BrokerRefused
from gateway.hub import Presence, UserIndex
from gateway.hub.changes import ChangeFanout
from gateway.log import get_logger
from gateway.session import (
    Failures,
    RateLimit,
    Rates,
    Session,
    SessionContext,
    UserLimit,
    channels_of_everyone,
)
from protocol.codes import DisconnectCode
from protocol.encodings import JSON
from protocol.redis_contract import publish_channel
from tests.support.hub import FakeReceiver, HubWorld, turn
from tests.support.presence import FakePresenceStore

SECRET = "a-secret-of-at-least-thirty-two-bytes!"
Answer = dict[str, Any]


class FakeOutlet(FakeReceiver):
    """A connection that keeps what its session sends (`gateway.session.Outlet`)."""

    def __init__(self) -> None:
        super().__init__()
        self.native_ping = False
        self.peer = "192.0.2.1:1234"
        self.headers: dict[str, str] = {}
        self.queued: list[bytes] = []
        self.writes: list[list[bytes]] = []
        self.closed: DisconnectCode | None = None
        self.is_connected = False
        self.paused = 0
        self.resumed = 0

    def send(self, message: bytes) -> None:
        assert self.closed is None, "nothing is sent after the close"
        self.queued.append(message)

    def flush(self) -> None:
        if self.queued:
            self.writes.append(self.queued)
            self.queued = []

    def close(self, disconnect: DisconnectCode) -> None:
        assert self.closed is None, "closed once"
        self.flush()
        self.closed = disconnect

    def connected(self) -> None:
        self.is_connected = True

    def pause_commands(self) -> None:
        self.paused += 1

    def resume_commands(self) -> None:
        self.resumed += 1


class FakeBroker:
    """Keeps what is published. Takes it at once, unless `late`; refuses it with `busy`, fails with `error`."""

    def __init__(self) -> None:
        self.published: list[tuple[bytes, bytes]] = []
        self.waiting: list[asyncio.Future[int]] = []
        self.late = False
        self.busy: BrokerError | None = None
        self.error: Exception | None = None

    def publish(self, channel: bytes, payload: bytes) -> asyncio.Future[int]:
        if self.busy is not None:
            raise self.busy
        self.published.append((channel, payload))
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.late:
            self.waiting.append(done)
        elif self.error is not None:
            done.set_exception(self.error)
            done.exception()
        else:
            done.set_result(1)
        return done


class Client:
    """The client's side of one session."""

    def __init__(self, world: SessionWorld) -> None:
        self.world = world
        self.outlet = FakeOutlet()
        self.session = Session(world.context, self.outlet)
        self._seen = 0
        self._last_id = 0

    async def frame(self, *commands: Answer) -> list[Answer]:
        """Send commands in one frame; what has come since the last frame."""
        payload = b"\n".join(json.dumps(command).encode() for command in commands)
        self.session.receive(JSON.decode_commands(payload))
        await self.world.settle()
        return self.news()

    async def ask(self, **request: Any) -> Answer:
        """One command with an id of its own; its reply."""
        self._last_id += 1
        answers = await self.frame({"id": self._last_id, **request})
        (answer,) = [each for each in answers if each.get("id") == self._last_id]
        return answer

    async def connect(self, user: str = "42", **claims: Any) -> Answer:
        answer = await self.ask(connect={"token": self.world.token(user, **claims)})
        assert "connect" in answer, answer
        result: Answer = answer["connect"]
        return result

    def news(self) -> list[Answer]:
        """What was written since the last look."""
        flat = [json.loads(message) for write in self.outlet.writes for message in write]
        new, self._seen = flat[self._seen :], len(flat)
        return new

    @property
    def closed(self) -> int | None:
        return self.outlet.closed.code if self.outlet.closed is not None else None


class SessionWorld:
    """What all sessions share. `confirms` = Redis answers each SUBSCRIBE at once; `places` count users' connections."""

    def __init__(self, *, backend: Backend = NOBODY, places: Any = None, **sections: Any) -> None:
        auth = {"hmac_secret": SECRET} | sections.pop("auth", {})
        self.config = Config.model_validate({"auth": auth, **sections})
        self.hub = HubWorld(namespaces=self.config.namespaces)
        self.clock = self.hub.clock
        self.counters = self.hub.counters
        self.broker = FakeBroker()
        self.present: Any = FakePresenceStore()
        changes = ChangeFanout(self.counters, slice_deliveries=256, queue_messages=1000)
        self.presence = Presence(self.present, self.present, changes, SystemClock(), lease_s=30)
        """Writes nothing unless the test runs it."""
        self.confirms = True
        self.refuses: set[str] = set()
        self._answered = 0
        limits = self.config.limits
        users: UserIndex[Session] = UserIndex()
        user_limit = None
        if places is not None:
            user_limit = UserLimit(
                places,
                users,
                self.counters,
                self.clock,
                limit=limits.connections_per_user,
                close_oldest=limits.user_limit_policy == "close_oldest",
            )
        self.context = SessionContext(
            config=self.config,
            hub=self.hub.hub,
            users=users,
            broker=self.broker,
            channel_log=self.hub.log,  # type: ignore[arg-type]
            presence=self.presence,
            verifier=TokenVerifier(
                KeySet(hmac_secret=self.config.auth.hmac_secret, clock=self.clock),
                leeway_s=self.config.auth.leeway_s,
                anonymous=self.config.auth.anonymous,
                clock=self.clock,
            ),
            revocations=Revocations(self.clock),
            clients={},
            counters=self.counters,
            clock=self.clock,
            log=get_logger(),
            node="node",
            rate=RateLimit(limits.commands_per_s, limits.commands_burst),
            everyone=channels_of_everyone(self.config.namespaces),
            latency=self.hub.latency,
            backend=backend,
            rates=Rates(limits),
            failures=Failures(self.clock, self.counters, allowed=limits.auth_failures, longest_s=limits.auth_delay_s),
            user_limit=user_limit,
        )

    def client(self) -> Client:
        return Client(self)

    async def connected(self, user: str = "42", **claims: Any) -> Client:
        client = self.client()
        await client.connect(user, **claims)
        return client

    def token(self, user: str = "42", *, ttl_s: float | None = None, **claims: Any) -> str:
        """A connection token, or with `channel` a subscription token."""
        if ttl_s is not None:
            claims["exp"] = self.clock.time() + ttl_s
        return jwt.encode({"sub": user, **claims}, SECRET, algorithm="HS256")

    def answer_redis(self) -> None:
        """Redis answers everything that it was asked."""
        asked = self.hub.redis.calls
        while self._answered < len(asked):
            verb, channel = asked[self._answered]
            self._answered += 1
            if verb == "subscribe":
                refused = channel in {publish_channel("gw", each) for each in self.refuses}
                self.hub.hub.subscription_confirmed(channel, BrokerRefused("NOPERM") if refused else None)

    async def settle(self) -> None:
        """Let Redis answer, and everything happen that then is due."""
        if self.confirms:
            self.answer_redis()
        await turn(4)
        if self.confirms:
            self.answer_redis()
            await turn(4)

    async def publish(self, channel: str, data: bytes) -> None:
        self.hub.publish(channel, data)
        await turn(3)
