"""A client that behaves as the SDKs do, and keeps a ledger of each of its subscriptions.

Behaviour, delays and time-outs are those of centrifuge-js 5: connect and all subscribes in one message; unsubscribed
with a code from 2500 on → subscribe again, with recovery from its position; closed with a code that is not terminal, or
without one → connect again after a delay that doubles, and recover; a reply that does not come within 5 s → connect
again; no ping within the interval and 10 s → connect again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.bench.chunks import PROTOCOL_PING
from loadtest.faults import wire
from loadtest.faults.ledger import Ledger
from loadtest.faults.messages import Arrival, Decoder, Json, arrival, encode
from loadtest.faults.record import Record
from protocol.position import Position

DELAY_S: Final = (0.5, 20.0)
REPLY_TIMEOUT_S: Final = 5.0
PING_DELAY_S: Final = 10.0
FINAL_UNSUBSCRIBES: Final = range(2500)
EXPIRED_TOKEN: Final = 109


def is_terminal(code: int) -> bool:
    """Whether SDKs stay away after this close code."""
    return 3500 <= code < 4000 or 4500 <= code < 5000


def delay_s(attempts: int) -> float:
    """Before the next attempt, after `attempts` that failed."""
    shortest, longest = DELAY_S
    return min(longest, shortest + random.random() * min(longest, shortest * 2.0 ** min(attempts, 31)))


@dataclass(frozen=True, slots=True)
class Departure:
    """A connection that ended, other than by a fault that cut it on this side."""

    client_id: str
    code: int
    reason: str
    fault: str
    """What was being done to the gateway meanwhile."""


@dataclass(slots=True)
class Surroundings:
    """What all clients share."""

    host: str
    port: int
    path: str
    token: Callable[[str], str]
    record: Record
    decoder: Decoder = field(default_factory=Decoder)
    fault: str = ""
    departures: list[Departure] = field(default_factory=list)
    notices: Counter[str] = field(default_factory=Counter)
    """What clients were told, by kind."""

    def went_wrong(self, what: str) -> None:
        """Count what no gateway may do."""
        self.record.wrong[f"{what} (during “{self.fault}”)"] += 1


class Subscription:
    """One channel of one client."""

    __slots__ = ("attempts", "channel", "ledger", "recoverable", "subscribed")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.ledger = Ledger()
        self.subscribed = False
        self.recoverable = False
        self.attempts = 0

    def request(self) -> Json:
        """`subscribe`, recovering when there is something to recover."""
        request: Json = {"channel": self.channel}
        position = self.ledger.position
        if self.recoverable and position is not None:
            request |= {"recover": True, "epoch": position.epoch, "offset": position.offset}
        return request


class Subscriber:
    """One client. `receive_buffer_bytes` as in `wire.connect`."""

    def __init__(self, user: str, channels: Sequence[str], around: Surroundings, receive_buffer_bytes: int = 0) -> None:
        self.user = user
        self.subscriptions = {channel: Subscription(channel) for channel in channels}
        self.client_id = ""
        """Of the connection that it has."""
        self.connected = False
        self._around = around
        self._receive_buffer_bytes = receive_buffer_bytes
        self._loop = asyncio.get_running_loop()
        self._wire: wire.Wire | None = None
        self._ghosts: list[wire.Wire] = []
        self._attempts = 0
        self._last_id = 0
        self._waiting: dict[int, tuple[str, asyncio.TimerHandle]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._ended = False
        self._asleep = False
        self._ping_s = 0.0
        self._heard_at = 0.0

    @property
    def live(self) -> bool:
        """Whether all its subscriptions are."""
        return self.connected and all(each.subscribed for each in self.subscriptions.values())

    def start(self) -> None:
        """Connect. It stays connected until `close`, as far as that depends on it."""
        if not self._ended:
            self._connecting = self._loop.create_task(self._connect())

    def close(self) -> None:
        """Reset what it has."""
        self._ended = True
        self._forget()
        for timer in self._timers:
            timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        for ghost in self._ghosts:
            ghost.drop()

    def fall_asleep(self) -> None:
        """Stop reading, as a phone that is busy with something else."""
        self._asleep = True
        if self._wire is not None:
            self._wire.fall_asleep()

    def wake_up(self) -> None:
        self._asleep = False
        self._heard_at = self._loop.time()
        if self._wire is not None:
            self._wire.wake_up()

    def vanish(self) -> str:
        """Lose the network without a word, and find another one. The client id that the server still has."""
        lost, gone = self._wire, self.client_id
        if lost is not None:
            lost.vanish()
            self._ghosts.append(lost)
            self._wire = None
        self._forget()
        self._connect_later()
        return gone

    def check_ping(self) -> None:
        """Call this about once a second."""
        expects_pings = self.connected and self._ping_s and not self._asleep
        if expects_pings and self._loop.time() - self._heard_at > self._ping_s + PING_DELAY_S:
            self._give_up("the client: no ping")

    # Its connection.

    async def _connect(self) -> None:
        around = self._around
        try:
            self._wire = await wire.connect(self, around.host, around.port, around.path, self._receive_buffer_bytes)
        except OSError as error:
            around.notices[f"connecting: {error.strerror or error}"] += 1
            self._connect_later()

    def _connect_later(self) -> None:
        if not self._ended:
            self._after(delay_s(self._attempts), self.start)
            self._attempts += 1

    def opened(self, opened: wire.Wire) -> None:
        """The handshake is done (`wire.Owner`)."""
        self._wire = opened
        connect = {"id": self._expect(""), "connect": {"token": self._around.token(self.user), "name": "js"}}
        subscribes = [
            {"id": self._expect(each.channel), "subscribe": each.request()} for each in self.subscriptions.values()
        ]
        opened.send(encode(connect, *subscribes))

    def closed(self, code: int, reason: str) -> None:
        """By the server, or broken (`wire.Owner`)."""
        self._departed(code, reason)
        if is_terminal(code):
            self._around.went_wrong(f"sent away for good with code {code} {reason}")
            self._ended = True
        else:
            self._connect_later()

    def _give_up(self, why: str) -> None:
        """Close from this side, and connect again."""
        self._departed(0, why)
        self._connect_later()

    def _departed(self, code: int, reason: str) -> None:
        around = self._around
        if self.connected:
            around.departures.append(Departure(self.client_id, code, reason, around.fault))
        else:
            around.notices[f"connecting: {code or ''} {reason}"] += 1
        self._forget()

    def _forget(self) -> None:
        """The connection is no more."""
        if self._wire is not None:
            self._wire.drop()
            self._wire = None
        self.connected = False
        self.client_id = ""
        for _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        for each in self.subscriptions.values():
            each.subscribed = False

    # What it receives.

    def received(self, payload: bytes) -> None:
        """One message (`wire.Owner`)."""
        self._heard_at = self._loop.time()
        if payload == PROTOCOL_PING:
            if self._wire is not None:
                self._wire.send(PROTOCOL_PING)
            return
        for item in self._around.decoder.decode(payload):
            if isinstance(item, Arrival):
                self._take(item)
            elif "push" in item:
                self._pushed(item["push"])
            elif item.get("id") in self._waiting:
                channel, timer = self._waiting.pop(item["id"])
                timer.cancel()
                if channel:
                    self._subscribe_replied(self.subscriptions[channel], item)
                else:
                    self._connect_replied(item)
            else:
                self._around.went_wrong(f"unexpected: {str(item)[:80]}")

    def _take(self, item: Arrival) -> None:
        subscription = self.subscriptions[item.channel]
        if not subscription.subscribed:
            self._around.went_wrong("publications outside of a subscription")
        elif not item.offset:
            self._around.went_wrong("publications without an offset")
        else:
            ledger = subscription.ledger
            ledger.take(item.offset)
            self._around.record.see(item.channel, ledger.stretches[-1].epoch, item.offset, item.sequence)

    def _pushed(self, push: Json) -> None:
        if "unsubscribe" not in push:
            self._around.went_wrong(f"unexpected push: {str(push)[:80]}")
            return
        code = push["unsubscribe"].get("code", 0)
        subscription = self.subscriptions[push["channel"]]
        subscription.subscribed = False
        if code in FINAL_UNSUBSCRIBES:
            self._around.went_wrong(f"unsubscribed for good with code {code}")
        else:
            self._around.notices[f"unsubscribe {code}"] += 1
            self._subscribe(subscription)

    def _connect_replied(self, reply: Json) -> None:
        if "error" in reply:
            self._failed("connect", reply["error"])
            self._give_up(f"the client: connect failed with {reply['error']['code']}")
            return
        result = reply["connect"]
        self.client_id = result["client"]
        self._ping_s = result.get("ping", 0)
        self.connected = True
        self._attempts = 0

    def _subscribe_replied(self, subscription: Subscription, reply: Json) -> None:
        if "error" in reply:
            if self._failed("subscribe", reply["error"]):
                self._after(delay_s(subscription.attempts), self._subscribe, subscription)
                subscription.attempts += 1
            return
        result = reply["subscribe"]
        position = Position(offset=result.get("offset", 0), epoch=result.get("epoch", ""))
        recovered = result.get("recovered", False)
        subscription.subscribed = True
        subscription.attempts = 0
        subscription.recoverable = result.get("recoverable", False)
        if not subscription.recoverable:
            self._around.went_wrong("subscriptions that are not recoverable")
        if result.get("was_recovering"):
            self._around.notices["recovered" if recovered else "not recovered"] += 1
        if recovered and position != subscription.ledger.position:
            self._around.went_wrong("recovered from another position than the client's")
        subscription.ledger.subscribed(position, recovered=recovered)
        missed = result.get("publications", ())
        subscription.ledger.recovered += len(missed)
        for publication in missed:
            self._take(arrival(subscription.channel, publication))

    def _failed(self, what: str, error: Json) -> bool:
        """Whether SDKs try again."""
        code = error["code"]
        again = code < 100 or code == EXPIRED_TOKEN or bool(error.get("temporary"))
        if again:
            self._around.notices[f"{what}: error {code}"] += 1
        else:
            self._around.went_wrong(f"{what}: error {code} {error.get('message', '')}")
        return again

    def _subscribe(self, subscription: Subscription) -> None:
        channel = subscription.channel
        asked = any(channel == waiting for waiting, _ in self._waiting.values())
        if self._wire is not None and self.connected and not subscription.subscribed and not asked:
            self._wire.send(encode({"id": self._expect(channel), "subscribe": subscription.request()}))

    def _expect(self, channel: str) -> int:
        """The id of a command whose reply must come in time. `channel` "" = connect."""
        self._last_id += 1
        kind = "subscribe" if channel else "connect"
        timer = self._loop.call_later(REPLY_TIMEOUT_S, self._timed_out, kind)
        self._waiting[self._last_id] = (channel, timer)
        return self._last_id

    def _timed_out(self, kind: str) -> None:
        if self._asleep:
            return
        self._give_up(f"the client: {kind} was not answered within {REPLY_TIMEOUT_S:g} s")

    def _after(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call(*arguments)

        timer = self._loop.call_later(seconds, run)
        self._timers.add(timer)
