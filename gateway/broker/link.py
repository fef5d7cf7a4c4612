"""One life of a subscriber connection, read by an `asyncio.Protocol` over `hiredis.Reader`.

Redis answers the commands of one connection in order, so a FIFO of sent commands says whose answer comes next; an error
answers the whole command. No lock is needed: the state of a channel changes in one place, on one thread, and a
SUBSCRIBE behind an UNSUBSCRIBE is answered behind it.

In a cluster the channels are those of sharded pub/sub (`gateway.broker.resp.Dialect`): one in each command, since they
are in different slots. A slot that moves away takes its channels along: Redis says so unasked (`sunsubscribe`), or
refuses (MOVED). Both are no errors; the channel is handed back with `moved`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable
from typing import Any, Final, Protocol

import hiredis
from redis.crc import key_slot

from gateway.broker.resp import PING, Dialect, batches, command
from gateway.errors import BrokerRefused, BrokerUnavailable
from gateway.storage.endpoint import Server

MOVED = ("MOVED ", "ASK ", "CLUSTERDOWN ", "TRYAGAIN ")
"""How errors begin that say: not here, not now."""
REPLIES_A_PASS: Final = 512
"""Replies that one turn of the loop reads: after a backlog, the sockets of clients take turns with the rest of it."""
_A_PASS: Final = range(REPLIES_A_PASS)


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

    def publications_missed(self, channels: Collection[bytes], deaf_s: float) -> None:
        """What was published on these channels during the last `deaf_s` seconds was not heard. They are subscribed."""
        ...

    def subscription_confirmed(self, channel: bytes, error: BrokerRefused | None) -> None:
        """Redis took (or refused) a channel of `subscribe`. A refused one is not wanted any more."""
        ...


class Sent:
    """A command that Redis has not answered completely."""

    __slots__ = ("channels", "kind", "left")

    def __init__(self, kind: bytes, channels: Iterable[bytes]) -> None:
        self.kind = kind
        self.channels = tuple(channels)
        self.left = max(1, len(self.channels))


class Link(asyncio.Protocol):
    """One life of the connection."""

    def __init__(
        self,
        server: Server,
        listener: SubscriberListener,
        dialect: Dialect,
        refused: Callable[[bytes], None],
        moved: Callable[[bytes], None],
    ) -> None:
        self._server = server
        self._dialect = dialect
        self._message = dialect.message
        self._moved = moved
        self._listener = listener
        self._refused = refused
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._sent: deque[Sent] = deque()
        self._outbox: dict[bytes, bytes] = {}
        self._changes_sent = 0
        self._answered: asyncio.Future[Any] | None = None
        self._alive = False
        self._behind = False  # the reader may hold more replies
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
            if self._dialect.alone:
                self._send_alone(b"SSUBSCRIBE", batch)
                await self._ask(b"ping", PING)
                continue
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
            self._send(Sent(b"ping", ()), PING)
            await asyncio.wait((self._lost,), timeout=interval_s)
            if self._lost.done():
                return self._lost.result()
            if not self._alive:
                return f"no answer to PING within {interval_s:g} s"

    async def _ask(self, kind: bytes, request: bytes, channels: Iterable[bytes] = ()) -> Any:
        """Redis' (last) answer."""
        self._answered = self._loop.create_future()
        self._send(Sent(kind, channels), request)
        await asyncio.wait((self._answered, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            raise BrokerUnavailable(self._lost.result())
        answered, self._answered = self._answered, None
        return answered.result()

    # Changing what is subscribed.

    def subscribe(self, channel: bytes) -> None:
        self._enqueue(channel, self._dialect.subscribe)

    def unsubscribe(self, channel: bytes) -> None:
        self._enqueue(channel, self._dialect.unsubscribe)

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
        for verb in (self._dialect.unsubscribe, self._dialect.subscribe):
            for batch in batches(channel for channel, wish in outbox.items() if wish == verb):
                if self._dialect.alone:
                    self._changes_sent += len(batch)
                    self._send_alone(verb, batch)
                    continue
                self._changes_sent += 1
                self._send(Sent(verb.lower(), batch), command(verb, *batch))

    def _change_answered(self) -> None:
        self._changes_sent -= 1
        if not self._changes_sent and self._outbox:
            self._flush()

    def _send(self, sent: Sent, request: bytes) -> None:
        if self._transport is not None:
            self._sent.append(sent)
            self._transport.write(request)

    def _send_alone(self, verb: bytes, channels: Collection[bytes]) -> None:
        """A command for each, all in one write."""
        if self._transport is not None:
            self._sent.extend(Sent(verb.lower(), (channel,)) for channel in channels)
            self._transport.write(b"".join(command(verb, channel) for channel in channels))

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """On the path of every message."""
        self._alive = True
        self._reader.feed(data)
        if self._behind:
            return
        message, gets = self._message, self._reader.gets
        try:
            for _ in _A_PASS:
                if (reply := gets()) is False:
                    return
                if type(reply) is list and reply[0] == message:
                    self._deliver(reply[1], reply[2])
                else:
                    self._reply_received(reply)
        except hiredis.ProtocolError as error:
            self.end(f"not a Redis server: {error}")
        if self._transport is not None:
            self._behind = True
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """The rest, or a pass's worth of it."""
        if self._transport is not None:
            self._behind = False
            self._transport.resume_reading()
            self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc) if exc else "closed by Redis")

    def abort(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def end(self, reason: str) -> None:
        """Close, for this reason."""
        self.abort()
        if not self._lost.done():
            self._lost.set_result(reason)

    # Answers.

    def _reply_received(self, reply: Any) -> None:
        if self._dialect.alone and self._said_unasked(reply):
            return
        if not self._sent:
            self.end(f"unexpected reply {reply!r:.100}")
            return
        sent = self._sent[0]
        if isinstance(reply, hiredis.ReplyError):
            self._sent.popleft()
            self._command_refused(sent, BrokerRefused(str(reply)))
            return
        if isinstance(reply, list) and reply[0] == self._dialect.confirmed:
            if self.restoring:
                self.held.add(reply[1])
            else:
                self._listener.subscription_confirmed(reply[1], None)
        sent.left -= 1
        if not sent.left:
            self._sent.popleft()
            if sent.channels and not self.restoring:
                self._change_answered()
            waits_for_this = not (self._dialect.alone and sent.channels)
            if waits_for_this and self._answered is not None and not self._answered.done():
                self._answered.set_result(reply)

    def _said_unasked(self, reply: Any) -> bool:
        """Whether it answers nothing that was sent: a slot has gone, and this channel with it."""
        head = self._sent[0] if self._sent else None
        if isinstance(reply, list) and reply[0] == b"sunsubscribe":
            if head is not None and head.kind == b"sunsubscribe" and head.channels == (reply[1],):
                return False
            self.held.discard(reply[1])
            self._moved(reply[1])
            return True
        if isinstance(reply, list) and reply[0] == b"ssubscribe" and (head is None or head.channels != (reply[1],)):
            self._listener.subscription_confirmed(reply[1], None)
            return True
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("MOVED "):
            # Perhaps to a SUNSUBSCRIBE whose channel had just gone by itself.
            slot = int(str(reply).split()[1])
            return head is None or not head.channels or key_slot(head.channels[0]) != slot
        return False

    def _command_refused(self, sent: Sent, error: BrokerRefused) -> None:
        waits_for_this = not (self._dialect.alone and sent.channels)
        if waits_for_this and self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
        if self._dialect.alone and sent.channels:
            if sent.kind == b"ssubscribe":
                if str(error).startswith(MOVED):
                    self._moved(sent.channels[0])
                else:
                    self._refused(sent.channels[0])
                    self._listener.subscription_confirmed(sent.channels[0], error)
        elif not self.restoring and sent.kind == b"subscribe":
            if len(sent.channels) == 1:
                self._refused(sent.channels[0])
                self._listener.subscription_confirmed(sent.channels[0], error)
            else:
                # The error is that of one channel, but nothing of the command was done: ask for each by itself.
                for channel in sent.channels:
                    self._changes_sent += 1
                    self._send(Sent(sent.kind, (channel,)), command(b"SUBSCRIBE", channel))
        if not self.restoring and sent.channels:
            self._change_answered()
