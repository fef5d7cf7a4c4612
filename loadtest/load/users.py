"""Users over WebSocket. Each kind does one thing that clients do; all of them check what they are given.

Importing this imports Locust, which makes the standard library cooperative (gevent): never in the driver or in tests.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import Any, Final

import gevent
import jwt
from locust import User, between, constant, task
from locust.exception import StopUser

from loadtest.bench.messages import evidence
from loadtest.load.client import Client, Refused
from loadtest.load.orders import OrderError, Orders, StreamText
from loadtest.load.plan import BULK, LOG, NEWS, ROOM, ROOMS, STREAM, STREAMS, TOPIC, TOPICS, Site
from loadtest.load.wire import Wire, WireError

TOKEN_LIFE_S: Final = 3600
TYPE: Final = "WS"
DELAYS_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before a client tries again to connect, at most."""
SLEEP_S: Final = 6.0
SLOW_RECEIVE_BYTES: Final = 16_384
CATCH_UP_S: Final = 10.0
MANY: Final = 100
NUMBERS: Final = itertools.count(1)


class Connected(User):
    """What all of them have: a connection, and times for what they do."""

    abstract = True
    receive_bytes = 0
    subscriptions: tuple[str, ...] = (NEWS,)

    def on_start(self) -> None:
        """Connect, and subscribe."""
        self.site = Site.from_environment()
        self.name = f"{type(self).__name__.lower()}-{next(NUMBERS)}-{random.randrange(1 << 30)}"
        self.client_: Client | None = None
        self.come()

    def on_stop(self) -> None:
        """Leave."""
        self.leave()

    def come(self) -> None:
        """A new connection."""
        for delay_s in DELAYS_S:
            wire = Wire(self.site.host, self.site.port, self.site.path, receive_bytes=self.receive_bytes)
            self.client_ = Client(wire, self.on_push)
            if self.timed("connect", lambda: self.gateway.connect(self.token())):
                break
            self.client_.close()
            gevent.sleep(delay_s * random.uniform(0.5, 1.0))
        else:
            self.client_ = None
            raise StopUser
        for channel in self.subscriptions:
            self.timed("subscribe", lambda channel=channel: self.gateway.call("subscribe", {"channel": channel}))

    def leave(self) -> None:
        """End the connection; whether it was still there is told."""
        if self.client_ is not None:
            self.report("connection", 0.0, self.client_.lost)
            self.client_.close()
            self.client_ = None

    @property
    def gateway(self) -> Client:
        """The connection."""
        if self.client_ is None:
            raise WireError("is closed")
        return self.client_

    def token(self, channel: str = "") -> str:
        """For `connect`, or for a channel."""
        claims = {"sub": self.name, "exp": int(time.time()) + TOKEN_LIFE_S} | ({"channel": channel} if channel else {})
        return jwt.encode(claims, self.site.secret, algorithm="HS256")

    def on_push(self, channel: str, push: dict[str, Any]) -> None:
        """Publications with a time in them are deliveries."""
        if channel == NEWS and "pub" in push:
            ((time_ns, _, _),) = evidence(f'"nxb":"{push["pub"]["data"]["nxb"]}"'.encode())
            self.report("delivery", (time.monotonic_ns() - time_ns) / 1e6)

    def check(self) -> None:
        """Come back when the connection was lost, and say so."""
        if self.client_ is not None and self.client_.lost is not None:
            self.leave()
            self.come()

    def timed(self, name: str, work: Any) -> bool:
        """Do it, report how long it took, or why it failed."""
        begin = time.perf_counter()
        try:
            work()
        except (WireError, Refused, OrderError) as error:
            if name != "connect" and self.client_ is not None and self.client_.lost is not None:
                return False  # the connection broke: that is told as such, once, by `leave`
            self.report(name, 1000 * (time.perf_counter() - begin), error)
            return False
        self.report(name, 1000 * (time.perf_counter() - begin))
        return True

    def report(self, name: str, ms: float, error: Exception | None = None) -> None:
        """Hand it to Locust."""
        self.environment.events.request.fire(
            request_type=TYPE, name=name, response_time=ms, response_length=0, exception=error, context={}
        )


class Idle(Connected):
    """Is there, and gets what is published."""

    wait_time = constant(1)

    @task
    def be_there(self) -> None:
        self.check()


class Chatty(Connected):
    """Publishes to a room, and waits until the publication has come back to it."""

    wait_time = between(0.2, 1.0)
    subscriptions = ()

    def come(self) -> None:
        super().come()
        self.room = ROOM.format(number=random.randrange(ROOMS))
        self.own: dict[str, gevent.event.Event] = {}
        self.timed("subscribe", lambda: self.gateway.call("subscribe", {"channel": self.room}))

    def on_push(self, channel: str, push: dict[str, Any]) -> None:
        heard = self.own.get(push.get("pub", {}).get("data", {}).get("id", "")) if channel == self.room else None
        if heard is not None:
            heard.set()

    @task
    def say(self) -> None:
        self.check()
        number = f"{self.name}-{next(NUMBERS)}"
        heard = self.own[number] = gevent.event.Event()

        def publish() -> None:
            self.gateway.call("publish", {"channel": self.room, "data": {"id": number, "text": "x" * 60}})
            if not heard.wait(5.0):
                raise OrderError("a publication of this client's own did not come back to it within 5 s")

        self.timed("publish", publish)
        del self.own[number]


class Ordered(Connected):
    """Follows the channel with history, and checks its offsets."""

    abstract = True
    subscriptions = ()
    channel = LOG

    def come(self) -> None:
        super().come()
        if not hasattr(self, "orders"):
            self.orders = Orders()
        self.subscribe("subscribe" if not self.orders.epoch else "recovery")

    def subscribe(self, name: str) -> None:
        def recover() -> None:
            self.gateway.call("subscribe", {"channel": self.channel} | self.orders.position(), self.orders.subscribed)
            self.orders.check()

        self.timed(name, recover)

    def on_push(self, channel: str, push: dict[str, Any]) -> None:
        if channel != self.channel:
            super().on_push(channel, push)
        elif "pub" in push:
            self.orders.published(push["pub"])


class SlowReader(Ordered):
    """Stops reading for a while; afterwards it must get everything that it has missed, in order."""

    wait_time = between(1, 3)
    receive_bytes = SLOW_RECEIVE_BYTES
    channel = BULK

    @task
    def sleep_and_catch_up(self) -> None:
        self.check()
        self.gateway.fall_asleep()
        gevent.sleep(SLEEP_S)
        before = self.orders.offset

        def catch_up() -> None:
            self.gateway.wake_up()
            newest = self.gateway.call("history", {"channel": self.channel})["offset"]
            until = time.monotonic() + CATCH_UP_S
            while self.orders.offset < newest:
                if time.monotonic() > until:
                    raise OrderError(f"offset {self.orders.offset} after {CATCH_UP_S:g} s, the newest is {newest}")
                gevent.sleep(0.02)
            self.orders.check()
            if self.orders.offset == before and newest > before:
                raise OrderError("nothing was published meanwhile")

        self.timed("slow reader catches up", catch_up)


class Reconnecting(Ordered):
    """Goes away and comes back with its position: what was published meanwhile must be there."""

    wait_time = between(1, 4)

    @task
    def go_and_come_back(self) -> None:
        self.leave()
        gevent.sleep(random.uniform(0.1, 1.0))
        self.come()
        self.timed("recovery", self.orders.check)


class ManyChannels(Connected):
    """Has a hundred channels, and changes them."""

    wait_time = between(2, 5)

    @task
    def change(self) -> None:
        self.check()
        names = [TOPIC.format(number=number) for number in random.sample(range(TOPICS), MANY)]
        self.timed("subscribe to 100", lambda: self.gateway.call_all([("subscribe", {"channel": n}) for n in names]))
        gevent.sleep(1.0)
        self.timed(
            "unsubscribe from 100", lambda: self.gateway.call_all([("unsubscribe", {"channel": n}) for n in names])
        )


class StreamWatcher(Connected):
    """Watches what a model says, from wherever it is to the end: one text without holes."""

    wait_time = between(0.1, 2.0)
    subscriptions = ()

    def come(self) -> None:
        super().come()
        self.text = StreamText()
        self.channel = ""

    def on_push(self, channel: str, push: dict[str, Any]) -> None:
        if channel == self.channel and "pub" in push:
            self.text.take(push["pub"]["data"])

    def on_subscribed(self, result: dict[str, Any]) -> None:
        for publication in result.get("publications", ()):
            self.text.take(publication["data"])

    @task
    def watch(self) -> None:
        self.check()
        self.text = StreamText()
        self.channel = STREAM.format(number=random.randrange(STREAMS))
        begin = time.perf_counter()

        def first() -> None:
            request = {"channel": self.channel, "token": self.token(self.channel)}
            self.gateway.call("subscribe", request, self.on_subscribed)
            self.text.wait_for(lambda: self.text.begun, 5.0, gevent.sleep)

        def end() -> None:
            self.text.wait_for(lambda: self.text.ended, 20.0, gevent.sleep)

        if self.timed("first snapshot", first):
            self.timed("token stream", end)
            self.report("token stream, all of it", 1000 * (time.perf_counter() - begin))
        self.timed("unsubscribe", lambda: self.gateway.call("unsubscribe", {"channel": self.channel}))
