"""The subscriber connection: one per worker, read by an `asyncio.Protocol` over `hiredis.Reader`.

redis-py's PubSub costs ten times as much per message, reconnects without saying so, and sends PING without looking for
the PONG. This one reports every loss and every return to its listener.

Theory of operation. The worker holds a set of wanted channels. A change is sent at the end of the current loop pass,
all changes of one kind in few commands. Redis answers the commands of one connection in order, so a FIFO of sent
commands says whose answer comes next; an error answers the whole command. No lock is needed: the state of a channel
changes in one place, on one thread, and a SUBSCRIBE behind an UNSUBSCRIBE is answered behind it.

After a loss everything wanted is subscribed again, in batches, before `subscriber_connected` is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any, Final, Protocol

import hiredis

from gateway.broker.backoff import Backoff
from gateway.broker.resp import PING, batches, command
from gateway.errors import BrokerRefused, BrokerUnavailable
from gateway.log import get_logger
from gateway.storage.endpoint import Server

BACKOFF_BASE_S: Final = 0.1
BACKOFF_CAP_S: Final = 3.0


class SubscriberListener(Protocol):
    """What a subscriber tells its owner. Called on the loop's thread; must not block and must not raise."""

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """One publication. On the path of every message."""
        ...

    def subscriber_connected(self) -> None:
        """Every wanted channel is subscribed: from here on nothing is missed until `subscriber_lost`."""
        ...

    def subscriber_lost(self, reason: str) -> None:
        """The connection broke; what is published from here on is missed until the next `subscriber_connected`."""
        ...

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        """Redis took (or refused) a channel of `subscribe`. A refused one is not wanted any more."""
        ...


class Subscriber:
    """Keeps one connection to Redis subscribed to the wanted channels."""

    def __init__(
        self,
        server: Server,
        *,
        connect_timeout_s: float,
        probe_interval_s: float,
        random: Callable[[], float],
    ) -> None:
        """`random` gives floats in [0, 1) for the backoff; nothing is opened before `run`."""
        self._server = server
        self._connect_timeout_s = connect_timeout_s
        self._probe_interval_s = probe_interval_s
        self._backoff = Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, random)
        self._wanted: dict[bytes, None] = {}
        self._link: _Link | None = None
        self._log = get_logger(redis=str(server))

    @property
    def connected(self) -> bool:
        """Whether every wanted channel is subscribed, or about to be on a live connection."""
        return self._link is not None

    @property
    def wanted(self) -> int:
        """Number of channels that are wanted."""
        return len(self._wanted)

    def subscribe(self, channel: bytes) -> bool:
        """Want `channel`. True = an answer will come as `subscription_confirmed`; False = Redis is away, and the
        channel is subscribed when it is back."""
        self._wanted[channel] = None
        if self._link is None:
            return False
        self._link.subscribe(channel)
        return True

    def unsubscribe(self, channel: bytes) -> None:
        """Do not want `channel` any more. No answer."""
        if self._wanted.pop(channel, 0) is None and self._link is not None:
            self._link.unsubscribe(channel)

    async def run(self, listener: SubscriberListener) -> None:
        """Stay connected until cancelled, and tell `listener` what comes."""
        while True:
            link = _Link(self._server, listener, self._refused)
            reason = "cancelled"
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await link.open()
                while missing := [channel for channel in self._wanted if channel not in link.held]:
                    async with asyncio.timeout(self._connect_timeout_s + len(missing) / 10_000):
                        await link.restore(missing)
                link.restored(self._wanted)
                self._link = link
                self._backoff.reset()
                self._log.info("redis connected", channels=len(self._wanted))
                listener.subscriber_connected()
                reason = await link.probe_until_lost(self._probe_interval_s)
            except (OSError, TimeoutError, BrokerUnavailable, BrokerRefused) as error:
                reason = str(error) or type(error).__name__
            finally:
                link.abort()
                if self._link is link:
                    self._link = None
                    listener.subscriber_lost(reason)
            delay_s = self._backoff.next_delay()
            self._log.warning("redis connection lost", reason=reason, retry_in_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    def _refused(self, channel: bytes) -> None:
        self._wanted.pop(channel, None)


class _Sent:
    """A command that Redis has not answered completely."""

    __slots__ = ("channels", "kind", "left")

    def __init__(self, kind: bytes, channels: Iterable[bytes]) -> None:
        self.kind = kind
        self.channels = tuple(channels)
        self.left = max(1, len(self.channels))


class _Link(asyncio.Protocol):
    """One life of the connection."""

    def __init__(self, server: Server, listener: SubscriberListener, refused: Callable[[bytes], None]) -> None:
        self._server = server
        self._listener = listener
        self._refused = refused
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._sent: deque[_Sent] = deque()
        self._outbox: dict[bytes, bytes] = {}
        self._changes_sent = 0
        self._answered: asyncio.Future[Any] | None = None
        self._alive = False
        self._deliver = listener.message_received
        self.held: set[bytes] = set()
        """Channels that Redis has confirmed while `restoring`."""
        self.restoring = True

    # Connecting.

    async def open(self) -> None:
        """Connect and log in. Raises OSError, BrokerRefused (wrong password), BrokerUnavailable."""
        await self._server.open(lambda: self)
        if self._server.password:
            credentials = [part.encode() for part in (self._server.username, self._server.password) if part]
            await self._ask(b"auth", command(b"AUTH", *credentials))
        if self._server.db:
            await self._ask(b"select", command(b"SELECT", str(self._server.db).encode()))
        if self._server.must_be_master:
            role = await self._ask(b"role", command(b"ROLE"))
            if role[0] != b"master":
                raise BrokerUnavailable(f"the server that was named is no master but a {role[0].decode()}")
        await self._ask(b"ping", PING)

    async def restore(self, channels: Iterable[bytes]) -> None:
        """Subscribe `channels` and wait until Redis has answered."""
        for batch in batches(channels):
            try:
                await self._ask(b"subscribe", command(b"SUBSCRIBE", *batch), batch)
            except BrokerRefused:
                # One channel that Redis refuses (an ACL) must not keep the others away.
                for channel in batch:
                    await self._restore_one(channel)

    async def _restore_one(self, channel: bytes) -> None:
        try:
            await self._ask(b"subscribe", command(b"SUBSCRIBE", channel), (channel,))
        except BrokerRefused as error:
            self._refused(channel)
            self._listener.subscription_confirmed(channel, error)

    def restored(self, wanted: Container[bytes]) -> None:
        """Everything wanted is held: give up what is not wanted any more, and go live."""
        for channel in self.held:
            if channel not in wanted:
                self.unsubscribe(channel)
        self.held.clear()
        self.restoring = False

    async def probe_until_lost(self, interval_s: float) -> str:
        """Send PING every `interval_s`; a silent Redis has that long to answer. Returns why the connection ended."""
        while True:
            self._alive = False
            self._send(_Sent(b"ping", ()), PING)
            await asyncio.wait((self._lost,), timeout=interval_s)
            if self._lost.done():
                return self._lost.result()
            if not self._alive:
                return f"no answer to PING within {interval_s:g} s"

    async def _ask(self, kind: bytes, request: bytes, channels: Iterable[bytes] = ()) -> Any:
        """Redis' (last) answer."""
        self._answered = self._loop.create_future()
        self._send(_Sent(kind, channels), request)
        await asyncio.wait((self._answered, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            raise BrokerUnavailable(self._lost.result())
        answered, self._answered = self._answered, None
        return answered.result()

    # Changing what is subscribed.

    def subscribe(self, channel: bytes) -> None:
        self._enqueue(channel, b"SUBSCRIBE")

    def unsubscribe(self, channel: bytes) -> None:
        self._enqueue(channel, b"UNSUBSCRIBE")

    def _enqueue(self, channel: bytes, verb: bytes) -> None:
        # While changes are unanswered, further ones wait and leave together: in a storm a few commands carry them all.
        if not self._outbox and not self._changes_sent:
            self._loop.call_soon(self._flush)
        self._outbox.pop(channel, None)
        self._outbox[channel] = verb

    def _flush(self) -> None:
        """Send what has changed; the last word on each channel counts."""
        outbox, self._outbox = self._outbox, {}
        if self._transport is None:
            return
        for verb in (b"UNSUBSCRIBE", b"SUBSCRIBE"):
            for batch in batches(channel for channel, wish in outbox.items() if wish == verb):
                self._changes_sent += 1
                self._send(_Sent(verb.lower(), batch), command(verb, *batch))

    def _change_answered(self) -> None:
        self._changes_sent -= 1
        if not self._changes_sent and self._outbox:
            self._flush()

    def _send(self, sent: _Sent, request: bytes) -> None:
        if self._transport is not None:
            self._sent.append(sent)
            self._transport.write(request)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """On the path of every message."""
        self._alive = True
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if type(reply) is list and reply[0] == b"message":
                    self._deliver(reply[1], reply[2])
                else:
                    self._reply_received(reply)
        except hiredis.ProtocolError as error:
            self._end(f"not a Redis server: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "closed by Redis")

    def abort(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _end(self, reason: str) -> None:
        self.abort()
        if not self._lost.done():
            self._lost.set_result(reason)

    # Answers.

    def _reply_received(self, reply: Any) -> None:
        if not self._sent:
            self._end(f"unexpected reply {reply!r:.100}")
            return
        sent = self._sent[0]
        if isinstance(reply, hiredis.ReplyError):
            self._sent.popleft()
            self._command_refused(sent, BrokerRefused(str(reply)))
            return
        if isinstance(reply, list) and reply[0] == b"subscribe":
            if self.restoring:
                self.held.add(reply[1])
            else:
                self._listener.subscription_confirmed(reply[1], None)
        sent.left -= 1
        if not sent.left:
            self._sent.popleft()
            if sent.channels and not self.restoring:
                self._change_answered()
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(reply)

    def _command_refused(self, sent: _Sent, error: BrokerRefused) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
        if not self.restoring and sent.kind == b"subscribe":
            if len(sent.channels) == 1:
                self._refused(sent.channels[0])
                self._listener.subscription_confirmed(sent.channels[0], error)
            else:
                # The error is that of one channel, but nothing of the command was done: ask for each by itself.
                for channel in sent.channels:
                    self._changes_sent += 1
                    self._send(_Sent(sent.kind, (channel,)), command(b"SUBSCRIBE", channel))
        if not self.restoring and sent.channels:
            self._change_answered()
