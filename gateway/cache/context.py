"""What both kinds of answers need: the choices, the counters, the local copies, and how long something is kept."""

from __future__ import annotations

import asyncio
import random

from gateway.cache.flight import Flight
from gateway.cache.local import LocalCopies
from gateway.cache.options import Options
from gateway.cache.streamed import refusal_of
from gateway.cache.tallies import Tallies
from gateway.cache.values import Value
from gateway.log import get_logger


class Context:
    """Of one cache."""

    def __init__(self, options: Options, tallies: Tallies, local: LocalCopies, rng: random.Random) -> None:
        self.options = options
        self.tallies = tallies
        self.local = local
        self._random = rng

    def ttl_s(self, kind: str) -> float:
        """Time for which an answer of this kind is kept: another one each time."""
        jitter = self.options.jitter
        return self.options.kinds[kind].ttl_s * self._random.uniform(1 - jitter, 1 + jitter)

    def deadline(self) -> float:
        """Until when Redis may take the time of a request that begins now, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.options.budget_s

    def refused(self, kind: str, value: Value, level: str) -> None:
        """Raises AnswerRefused if that is the answer."""
        if value.what == "refusal":
            refused = refusal_of(value)
            self.tallies.add(kind, f"hits_{level}")
            self.tallies.add(kind, "refusals")
            raise refused

    def unreadable(self, kind: str, digest: str, error: Exception) -> None:
        """Nobody has an answer that cannot be read."""
        self.tallies.add(kind, "unreadable")
        get_logger().warning("cached answer cannot be read", kind=kind, key=digest, reason=str(error))

    def landed(self, kind: str, flight: Flight, *, stored: bool) -> None:
        """A flight is over."""
        if flight.led:
            ending = flight.text.ending
            self.tallies.add(kind, "takeovers", flight.takeovers)
            self.tallies.add(kind, "failures", ending is None or ending.status == "failed")
            self.tallies.add(kind, "unstored", ending is not None and ending.status == "finished" and not stored)
