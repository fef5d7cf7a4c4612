"""`AsyncCache`: what a backend imports to ask a model once for what is asked often."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from gateway.breaker import Breaker
from gateway.cache.computed import Compute, Computed, ComputedFlight
from gateway.cache.flight import Flight, Plan
from gateway.cache.local import LocalCopies
from gateway.cache.options import Kind, Options
from gateway.cache.request import Request, digest_of, temperature_of
from gateway.cache.session import TEXT, Session, value_of
from gateway.cache.streamed import Answer, Draft, Level, Produce, StreamedFlight, refusal_of
from gateway.cache.tallies import KindStatistics, Tallies
from gateway.cache.text import Ending, Text
from gateway.cache.values import Value, ValueUnreadable, ValueUnstorable, decode, pack_payload, unpack_payload
from gateway.clock import Clock, SystemClock
from gateway.errors import BrokerUnavailable, CacheClosed, CacheInvalid
from gateway.log import get_logger
from gateway.publisher.options import CONNECT_TIMEOUT_S, redis_settings
from gateway.storage.pool import PoolStatistics
from gateway.streams.records import new_generation

FLIGHT: Final = "flight-"
"""What the keys of streams begin with that say only that a value is being computed."""
FLIGHT_TTL_S: Final = 60.0
"""Time for which is remembered that a value was computed."""


class CacheStatistics(NamedTuple):
    """What `AsyncCache.stats` says, of this process."""

    kinds: dict[str, KindStatistics]
    local_entries: int
    local_bytes: int
    flights: int
    """Answers that are being produced or followed here."""
    redis_away: bool
    """Whether Redis is not asked at the moment because it has failed too often."""
    redis_failures: int
    """Times that this has begun."""
    pool: PoolStatistics


class AsyncCache:
    """The cache of one process and event loop: use it as `async with`. `gateway.cache` says what it does."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "gw",
        options: Options | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`url`: redis://, rediss:// or unix://; `prefix` as the gateway has it. Nothing is opened before `async with`.

        Raises ConfigError, CacheInvalid.
        """
        self._settings = redis_settings(url, prefix, connect_timeout_s)
        self._options = options or Options()
        self._options.check()
        self._clock = clock or SystemClock()
        self._random = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._tallies = Tallies()
        self._local = LocalCopies(
            self._clock.monotonic,
            max_entries=self._options.local_entries,
            max_bytes=self._options.local_bytes,
            fresh_s=self._options.local_ttl_s,
        )
        self._redis_failures = 0
        self._session: Session | None = None
        self._streamed: dict[str, StreamedFlight] = {}
        self._computed: dict[str, ComputedFlight] = {}

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise CacheClosed("the cache is in use already")
        breaker = Breaker(
            self._clock.monotonic,
            failures=self._options.breaker_failures,
            open_s=self._options.breaker_open_s,
            changed=self._circuit_changed,
        )
        self._session = await Session.open(self._settings, self._options, breaker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop what is being produced here (others take over), and close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    def stats(self) -> CacheStatistics:
        """What this process has counted."""
        return CacheStatistics(
            kinds={kind: self._tallies.of(kind) for kind in self._options.kinds},
            local_entries=len(self._local),
            local_bytes=self._local.bytes,
            flights=len(self._streamed) + len(self._computed),
            redis_away=self._session is not None and self._session.bus.remote.is_away,
            redis_failures=self._redis_failures,
            pool=self._session.pool.statistics() if self._session else PoolStatistics(0, 0, 0, 0, 0, 0, 0),
        )

    # Values.

    async def get_or_compute(self, request: Request, compute: Compute) -> Computed:
        """The value for `request`; `compute` runs if nobody in the fleet has it or is at it.

        A value is what msgpack takes, and comes back as that: tuples as lists, and a new object for each caller. One
        that msgpack does not take is given to the callers of this process and not stored. Raises CacheInvalid,
        AnswerFailed, what `compute` raises, CacheClosed.
        """
        session, kind, digest = self._take(request)
        if self._is_bypassed(request, kind):
            self._tallies.add(request.kind, "bypasses")
            return Computed(await compute(), "bypass")
        remote = session.bus.remote
        copy = self._local.get(digest)
        if copy is not None and self._local.is_fresh(copy):
            return self._computed_of(request.kind, copy.value, "stale" if remote.is_away else "local")
        if (flight := self._computed.get(digest)) is None:
            try:
                found = await remote.get(digest)
            except BrokerUnavailable:
                if copy is not None:
                    return self._computed_of(request.kind, copy.value, "stale")
                found = None
            except ValueUnreadable as error:
                self._unreadable(request.kind, digest, error)
                found = None
            if found is not None:
                value, left_s = found
                self._local.put(digest, value, left_s)
                return self._computed_of(request.kind, value, "redis")
            flight = self._computed.get(digest)  # another caller may have been faster meanwhile
        if flight is None:
            flight = self._computed[digest] = ComputedFlight(
                session.bus,
                Plan(
                    FLIGHT + digest,
                    digest,
                    "",
                    session.stream_options._replace(text_ttl_s=FLIGHT_TTL_S, remember_s=FLIGHT_TTL_S),
                ),
                compute,
                ttl_s=self._ttl_s(kind),
                error_ttl_s=self._options.error_ttl_s,
                value_bytes=self._options.value_bytes,
            )
            session.tasks.spawn(self._compute(request.kind, kind, flight))
            first = True
        else:
            first = False
        flight.callers += 1
        while flight.text.ending is None:
            await flight.text.wait_changed()
        level: Level = "produced" if first and flight.led else "coalesced"
        self._tallies.add(request.kind, "misses" if level == "produced" else "hits_coalesced")
        if (failure := flight.text.ending.error) is not None:
            raise failure
        if flight.payload is None:
            return Computed(flight.value, level)
        if level == "coalesced":
            self._tallies.add(request.kind, "bytes_saved", len(flight.payload))
        return Computed(unpack_payload(flight.payload), level)

    def _computed_of(self, kind: str, value: Value, level: Level) -> Computed:
        """A hit. Raises AnswerRefused."""
        self._tallies.add(kind, f"hits_{level}")
        if value.what == "refusal":
            self._tallies.add(kind, "refusals")
            raise refusal_of(value)
        self._tallies.add(kind, "bytes_saved", len(value.payload))
        return Computed(unpack_payload(value.payload), level)

    async def _compute(self, name: str, kind: Kind, flight: ComputedFlight) -> None:
        digest = flight.plan.digest
        try:
            await flight.run()
        finally:
            del self._computed[digest]
            self._landed(name, flight)
        if flight.payload is not None:
            self._local.put(digest, Value("value", flight.payload), self._ttl_s(kind))
            if flight.led:
                self._tallies.add(name, "bytes_plain", len(flight.payload) if flight.stored_bytes else 0)
                self._tallies.add(name, "bytes_packed", flight.stored_bytes or 0)
        if flight.led and flight.text.ending is not None and flight.text.ending.error is None:
            self._tallies.add(name, "unstored", flight.stored_bytes is None)

    # Texts.

    async def get_or_stream(self, request: Request, produce: Produce, *, owner: str = "") -> Answer:
        """The answer to `request`, which is also the token stream `Answer.channel`; `produce` runs if nobody in the
        fleet has it or is at it.

        `owner`: the user who may subscribe to the stream, and end it for everybody; that of the first call counts.
        Where a tenant has several users, leave it out and give them subscription tokens. Returns as soon as it is
        known where the answer comes from. Raises CacheInvalid, AnswerRefused, CacheClosed; the Answer raises the rest.
        """
        session, kind, digest = self._take(request)
        if self._is_bypassed(request, kind):
            self._tallies.add(request.kind, "bypasses")
            key = f"{TEXT}{digest[:32]}-{new_generation(self._clock.time())}"
            flight = StreamedFlight(session.bus, Plan(key, digest, owner, session.stream_options), produce, 0)
            session.tasks.spawn(flight.run())
            await flight.started.wait()
            return Answer(key, "bypass", flight.text)
        if (answer := await self._join(request.kind, digest)) is not None:
            return answer
        looked = await self._look(session, request.kind, digest)
        if isinstance(looked, Answer):
            return looked
        if (answer := await self._join(request.kind, digest)) is not None:
            return answer
        replayed = looked is not None
        options = session.stream_options._replace(text_ttl_s=self._ttl_s(kind))
        plan = Plan(TEXT + digest, digest, owner, options)
        flight = StreamedFlight(session.bus, plan, looked or produce, self._options.error_ttl_s)
        self._streamed[digest] = flight
        session.tasks.spawn(self._stream(request.kind, kind, flight))
        await flight.started.wait()
        flight.callers += 1
        level: Level = ("local" if replayed else "produced") if flight.led else "coalesced"
        self._tallies.add(request.kind, "misses" if level == "produced" else f"hits_{level}")
        return Answer(plan.key, level, flight.text)

    async def _join(self, name: str, digest: str) -> Answer | None:
        """What is on its way in this process."""
        flight = self._streamed.get(digest)
        if flight is None:
            return None
        await flight.started.wait()
        flight.callers += 1
        self._tallies.add(name, "hits_coalesced")
        return Answer(flight.plan.key, "coalesced", flight.text)

    async def _look(self, session: Session, name: str, digest: str) -> Answer | Produce | None:
        """The answer if it is there; a producer that says it again when Redis has lost it; None = nobody has it.

        Raises AnswerRefused.
        """
        copy = self._local.get(TEXT + digest)
        try:
            stored, refusal = await session.bus.remote.ask(lambda: session.look(digest))
        except BrokerUnavailable:
            return None if copy is None else self._answer_of(name, digest, copy.value, "stale")
        if refusal is not None:
            try:
                value = decode(digest, refusal, self._options.value_bytes)
            except ValueUnreadable as error:
                self._unreadable(name, digest, error)
            else:
                if value.what == "refusal":
                    self._computed_of(name, value, "redis")
        if stored is None:
            return None if copy is None or not self._local.is_fresh(copy) else _again(copy.value)
        if stored.status != "finished" or stored.expired:
            return None
        try:
            value = value_of(stored)
        except ValueUnreadable as error:
            self._unreadable(name, digest, error)
            return None
        self._local.put(TEXT + digest, value, stored.left_ms / 1000)
        return self._answer_of(name, digest, value, "redis", stored.generation)

    def _answer_of(self, name: str, digest: str, value: Value, level: Level, generation: str = "") -> Answer:
        said, usage = unpack_payload(value.payload)
        text = Text()
        text.generation = generation
        text.add(said)
        text.end(Ending("finished", usage))
        self._tallies.add(name, f"hits_{level}")
        self._tallies.add(name, "bytes_saved", len(said.encode()))
        return Answer(TEXT + digest, level, text)

    async def _stream(self, name: str, kind: Kind, flight: StreamedFlight) -> None:
        digest = flight.plan.digest
        try:
            await flight.run()
        finally:
            del self._streamed[digest]
            self._landed(name, flight)
        ending = flight.text.ending
        if ending is None or ending.status != "finished":
            return
        said = flight.text.joined()
        self._tallies.add(name, "bytes_saved", len(said.encode()) * (flight.callers - flight.led))
        self._tallies.add(name, "unstored", flight.led and not flight.copied)
        try:
            value = Value("value", pack_payload([said, ending.usage], self._options.local_bytes))
        except ValueUnstorable as error:
            get_logger().debug("answer not kept in memory", reason=str(error))
        else:
            self._local.put(TEXT + digest, value, self._ttl_s(kind))

    # Both.

    def _take(self, request: Request) -> tuple[Session, Kind, str]:
        if self._session is None:
            raise CacheClosed("use the cache inside `async with`")
        digest = digest_of(request, self._options.defaults)
        kind = self._options.kinds.get(request.kind)
        if kind is None:
            raise CacheInvalid("kind", f'"{request.kind}" is none of {", ".join(self._options.kinds)}')
        return self._session, kind, digest

    def _is_bypassed(self, request: Request, kind: Kind) -> bool:
        return temperature_of(request, self._options.defaults) > 0 and not kind.keep_sampled

    def _ttl_s(self, kind: Kind) -> float:
        return kind.ttl_s * self._random.uniform(1 - self._options.jitter, 1 + self._options.jitter)

    def _landed(self, name: str, flight: Flight) -> None:
        ending = flight.text.ending
        self._tallies.add(name, "takeovers", flight.takeovers if flight.led else 0)
        self._tallies.add(name, "failures", flight.led and ending is not None and ending.status == "failed")

    def _unreadable(self, name: str, digest: str, error: Exception) -> None:
        self._tallies.add(name, "unreadable")
        get_logger().warning("cached answer cannot be read", kind=name, key=digest, reason=str(error))

    def _circuit_changed(self, is_open: bool) -> None:
        self._redis_failures += is_open
        log = get_logger()
        if is_open:
            log.warning("redis is away: answers come from memory, or are produced")
        else:
            log.info("redis is back")


def _again(value: Value) -> Produce:
    """A producer that says what was said before."""

    async def produce(draft: Draft) -> Any:
        said, usage = unpack_payload(value.payload)
        await draft.append(said)
        return usage

    return produce
