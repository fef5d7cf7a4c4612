"""Values: from memory, from Redis, from whoever computes them, or computed."""

from __future__ import annotations

from typing import Final

from gateway.cache.computed import Compute, Computed, ComputedFlight
from gateway.cache.context import Context
from gateway.cache.flight import Plan
from gateway.cache.session import Session
from gateway.cache.streamed import Level
from gateway.cache.values import Value, ValueUnreadable, unpack_payload
from gateway.errors import BrokerUnavailable

FLIGHT: Final = "flight-"
"""What the keys of streams begin with that say only that a value is being computed."""
FLIGHT_TTL_S: Final = 60.0
"""Time for which is remembered that a value was computed."""


class Computing:
    """The values of one cache."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self._flights: dict[str, ComputedFlight] = {}

    def __len__(self) -> int:
        """Flights that are under way."""
        return len(self._flights)

    async def get(self, kind: str, digest: str, compute: Compute) -> Computed:
        """As `AsyncCache.get_or_compute`."""
        until = self._context.deadline()
        if digest not in self._flights and (found := await self._find(kind, digest)) is not None:
            return found
        flight = self._flights.get(digest)
        first = flight is None
        if flight is None:
            flight = self._flight(kind, digest, compute, until)
            self._session.start(flight, self._run(kind, flight))
            self._flights[digest] = flight
        while flight.text.ending is None:
            await flight.text.wait_changed()
        level: Level = "produced" if first and flight.led and not flight.found else "coalesced"
        self._context.tallies.add(kind, "misses" if level == "produced" else "hits_coalesced")
        if (failure := flight.text.ending.error) is not None:
            raise failure
        if flight.payload is None:
            return Computed(flight.value, level)
        if level == "coalesced":
            self._context.tallies.add(kind, "bytes_saved", len(flight.payload))
        return Computed(unpack_payload(flight.payload), level)

    async def _find(self, kind: str, digest: str) -> Computed | None:
        """What there is. Raises AnswerRefused."""
        remote, local = self._session.bus.remote, self._context.local
        copy = local.get(digest)
        if copy is not None and local.is_fresh(copy):
            return self._hit(kind, copy.value, "stale" if remote.is_away else "local")
        try:
            found = await remote.get(digest)
        except BrokerUnavailable:
            return None if copy is None else self._hit(kind, copy.value, "stale")
        except ValueUnreadable as error:
            self._context.unreadable(kind, digest, error)
            return None
        if found is None:
            return None
        value, left_s = found
        try:
            hit = self._hit(kind, value, "redis")
        except ValueUnreadable as error:
            self._context.unreadable(kind, digest, error)
            return None
        local.put(digest, value, left_s)
        return hit

    def _hit(self, kind: str, value: Value, level: Level) -> Computed:
        """Raises AnswerRefused, ValueUnreadable."""
        self._context.refused(kind, value, level)
        hit = Computed(unpack_payload(value.payload), level)
        self._context.tallies.add(kind, f"hits_{level}")
        self._context.tallies.add(kind, "bytes_saved", len(value.payload))
        return hit

    def _flight(self, kind: str, digest: str, compute: Compute, until: float) -> ComputedFlight:
        options = self._session.stream_options._replace(text_ttl_s=FLIGHT_TTL_S, remember_s=FLIGHT_TTL_S)
        return ComputedFlight(
            self._session.bus,
            Plan(FLIGHT + digest, digest, "", options, until),
            compute,
            ttl_s=self._context.ttl_s(kind),
            error_ttl_s=self._context.options.error_ttl_s,
            value_bytes=self._context.options.value_bytes,
        )

    async def _run(self, kind: str, flight: ComputedFlight) -> None:
        digest = flight.plan.digest
        try:
            await flight.run()
        finally:
            del self._flights[digest]
            self._context.landed(kind, flight, stored=flight.stored_bytes is not None or flight.found)
            if flight.payload is not None:
                self._context.local.put(digest, Value("value", flight.payload), flight.ttl_s)
                if flight.stored_bytes is not None:
                    self._context.tallies.add(kind, "bytes_plain", len(flight.payload))
                    self._context.tallies.add(kind, "bytes_packed", flight.stored_bytes)
