"""Answers that are values: the flight of one, and what a caller gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gateway.cache.flight import Bus, Flight, Plan
from gateway.cache.streamed import Level, ending_of, failure_of, keep_refusal
from gateway.cache.text import Ending
from gateway.cache.values import Value, ValueUnreadable, ValueUnstorable, pack_payload
from gateway.errors import BrokerUnavailable, StreamCancelled
from gateway.log import get_logger
from gateway.streams import Record

Compute = Callable[[], Awaitable[Any]]
"""Gives the value: None, bool, int, float, str, bytes, and lists and dicts of these."""


class Computed(NamedTuple):
    """A value, and where it comes from: see `Answer.level`."""

    value: Any
    level: Level

    @property
    def stale(self) -> bool:
        """Whether it is a local copy that could not be compared with Redis."""
        return self.level == "stale"


class ComputedFlight(Flight):
    """A flight whose stream has no text: it says only that somebody is at it. The value stands in Redis."""

    def __init__(
        self, bus: Bus, plan: Plan, compute: Compute, *, ttl_s: float, error_ttl_s: float, value_bytes: int
    ) -> None:
        super().__init__(bus, plan)
        self._compute = compute
        self.ttl_s = ttl_s
        self._error_ttl_s = error_ttl_s
        self._value_bytes = value_bytes
        self.payload: bytes | None = None
        """The value as it is stored; None = it has no such form."""
        self.value: Any = None
        """The value, when it has no such form."""
        self.stored_bytes: int | None = None
        """What the value takes in Redis, if it was stored from here."""
        self.found = False
        """Whether somebody else was faster after all."""

    async def _produce(self) -> Any:
        # Between the look and the opening of the flight somebody may have computed it.
        self.found = await self._find()
        return None if self.found else await self._compute()

    async def _made(self, made: Any, error: BaseException | None) -> Ending:
        if error is not None:
            ending = ending_of(error)
            self.text.end(ending)
            await keep_refusal(self.bus, self.plan.digest, error, self._error_ttl_s)
            return ending
        if self.found:
            self.text.end(Ending("finished"))
            return Ending("finished", {"kept": True})
        try:
            self.payload = pack_payload(made, self._value_bytes)
        except ValueUnstorable as unstorable:
            self.value = made
            self.text.end(Ending("finished"))
            get_logger().warning("answer not stored", reason=str(unstorable))
            return Ending("finished", {"kept": False})
        self.text.end(Ending("finished"))
        try:
            self.stored_bytes = await self.bus.remote.set(self.plan.digest, Value("value", self.payload), self.ttl_s)
        except BrokerUnavailable as away:
            get_logger().debug("answer not stored", reason=str(away))
            return Ending("finished", {"kept": False})
        return Ending("finished", {"kept": True})

    async def _followed(self, record: Record) -> bool:
        if record.type == "cancelled":
            self.text.end(ending_of(StreamCancelled(self.plan.key, "cancelled")))
            return True
        if record.type == "failed":
            self.text.end(ending_of(await failure_of(self.bus, self.plan.digest, record)))
            return True
        if record.usage == {"kept": True} and await self._find():
            self.text.end(Ending("finished"))
            return True
        # Its producer could not keep it, or it is gone: producing one after another would help nobody.
        self._begin()
        await self._make()
        return True

    async def _find(self) -> bool:
        """Take the value from Redis, if it is there."""
        try:
            found = await self.bus.remote.get(self.plan.digest)
        except (BrokerUnavailable, ValueUnreadable):
            return False
        if found is None or found[0].what != "value":
            return False
        self.payload = found[0].payload
        return True
