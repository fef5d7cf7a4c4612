"""Texts: the stream that has ended, the one that is live, or a new one."""

from __future__ import annotations

from typing import Any

from gateway.cache.context import Context
from gateway.cache.flight import Plan
from gateway.cache.session import TEXT, Session, value_of
from gateway.cache.streamed import Answer, Draft, Level, Produce, StreamedFlight
from gateway.cache.text import Ending, Text
from gateway.cache.values import Value, ValueUnreadable, ValueUnstorable, decode, pack_payload, unpack_payload
from gateway.errors import BrokerUnavailable
from gateway.log import get_logger


class Streaming:
    """The texts of one cache."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self._flights: dict[str, StreamedFlight] = {}
        self._bypassing = 0

    def __len__(self) -> int:
        """Flights that are under way."""
        return len(self._flights) + self._bypassing

    async def get(self, kind: str, digest: str, produce: Produce, owner: str) -> Answer:
        """As `AsyncCache.get_or_stream`."""
        until = self._context.deadline()
        if (answer := await self._join(kind, digest)) is not None:
            return answer
        found = await self._find(kind, digest)
        if isinstance(found, Answer):
            return found
        if (answer := await self._join(kind, digest)) is not None:
            return answer  # another caller was faster
        again = found.copy
        options = self._session.stream_options._replace(text_ttl_s=self._context.ttl_s(kind))
        plan = Plan(TEXT + digest, digest, owner, options, until, keep_finished=not found.damaged)
        producer = produce if again is None else _again(again)
        flight = StreamedFlight(self._session.bus, plan, producer, self._context.options.error_ttl_s)
        self._session.start(flight, self._run(kind, flight))
        self._flights[digest] = flight
        await flight.started.wait()
        flight.callers += 1
        level: Level = "coalesced" if not flight.led else "produced" if again is None else "local"
        self._context.tallies.add(kind, "misses" if level == "produced" else f"hits_{level}")
        return Answer(plan.key, level, flight.text)

    async def bypass(self, key: str, digest: str, produce: Produce, owner: str) -> Answer:
        """A stream of its own, which nobody finds again."""
        plan = Plan(key, digest, owner, self._session.stream_options, self._context.deadline())
        flight = StreamedFlight(self._session.bus, plan, produce, 0)

        async def run() -> None:
            self._bypassing += 1
            try:
                await flight.run()
            finally:
                self._bypassing -= 1

        self._session.start(flight, run())
        await flight.started.wait()
        return Answer(key, "bypass", flight.text)

    async def _join(self, kind: str, digest: str) -> Answer | None:
        """What is on its way in this process."""
        flight = self._flights.get(digest)
        if flight is None:
            return None
        await flight.started.wait()
        flight.callers += 1
        self._context.tallies.add(kind, "hits_coalesced")
        return Answer(flight.plan.key, "coalesced", flight.text)

    async def _find(self, kind: str, digest: str) -> Answer | _Missing:
        """The answer, if it is there. Raises AnswerRefused."""
        local = self._context.local
        copy = local.get(TEXT + digest)
        remote = self._session.bus.remote
        try:
            stored, refusal = await remote.ask(lambda: self._session.look(digest))
        except BrokerUnavailable:
            return _Missing() if copy is None else self._hit(kind, digest, copy.value, "stale")
        if refusal is not None:
            try:
                self._context.refused(kind, decode(digest, refusal, self._context.options.value_bytes), "redis")
            except ValueUnreadable as error:
                self._context.unreadable(kind, digest, error)
        if stored is None:
            # Redis may have lost it; while a copy is fresh it is said again, for those who follow the stream.
            return _Missing(copy.value if copy is not None and local.is_fresh(copy) else None)
        if stored.status != "finished" or stored.expired:
            return _Missing()
        try:
            value = value_of(stored)
        except ValueUnreadable as error:
            self._context.unreadable(kind, digest, error)
            return _Missing(damaged=True)
        local.put(TEXT + digest, value, stored.left_ms / 1000)
        return self._hit(kind, digest, value, "redis", stored.generation)

    def _hit(self, kind: str, digest: str, value: Value, level: Level, generation: str = "") -> Answer:
        said, usage = unpack_payload(value.payload)
        text = Text()
        text.generation = generation
        text.add(said)
        text.end(Ending("finished", usage))
        self._context.tallies.add(kind, f"hits_{level}")
        self._context.tallies.add(kind, "bytes_saved", len(said.encode()))
        return Answer(TEXT + digest, level, text)

    async def _run(self, kind: str, flight: StreamedFlight) -> None:
        digest = flight.plan.digest
        try:
            await flight.run()
        finally:
            del self._flights[digest]
            self._context.landed(kind, flight, stored=flight.copied)
            self._keep(kind, flight)

    def _keep(self, kind: str, flight: StreamedFlight) -> None:
        """A copy of a whole, successful answer."""
        ending = flight.text.ending
        if ending is None or ending.status != "finished":
            return
        said = flight.text.joined()
        self._context.tallies.add(kind, "bytes_saved", len(said.encode()) * (flight.callers - flight.led))
        try:
            value = Value("value", pack_payload([said, ending.usage], self._context.options.local_bytes))
        except ValueUnstorable as error:
            get_logger().debug("answer not kept in memory", reason=str(error))
        else:
            self._context.local.put(TEXT + flight.plan.digest, value, flight.plan.options.text_ttl_s)


class _Missing:
    """Nobody has the answer."""

    def __init__(self, copy: Value | None = None, *, damaged: bool = False) -> None:
        self.copy = copy
        """What Redis has lost."""
        self.damaged = damaged
        """Whether Redis has something instead that cannot be read."""


def _again(value: Value) -> Produce:
    """A producer that says what was said before."""

    async def produce(draft: Draft) -> Any:
        said, usage = unpack_payload(value.payload)
        await draft.append(said)
        return usage

    return produce
