"""Copies of answers in the memory of this process: bounded in number and bytes, the least used goes first.

They save a round trip while they are fresh, and are all there is while Redis is away. Bytes, not objects: whoever gets
an answer may change it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.cache.values import Value

OVERHEAD_BYTES: Final = 400
"""What an entry takes beside its payload, about."""


class Copy(NamedTuple):
    """One answer."""

    value: Value
    fresh_until: float
    """Monotonic seconds until which Redis need not be asked."""
    expires_at: float
    """Monotonic seconds at which it is over, Redis away or not."""


class LocalCopies:
    """The copies of one process."""

    def __init__(self, monotonic: Callable[[], float], *, max_entries: int, max_bytes: int, fresh_s: float) -> None:
        self._monotonic = monotonic
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._fresh_s = fresh_s
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self.bytes = 0
        """Of all entries, with what they take beside their payloads."""

    def __len__(self) -> int:
        return len(self._copies)

    def get(self, key: str) -> Copy | None:
        """The copy, fresh or not; None = there is none that is not over."""
        copy = self._copies.get(key)
        if copy is None:
            return None
        if copy.expires_at <= self._monotonic():
            self.drop(key)
            return None
        self._copies.move_to_end(key)
        return copy

    def is_fresh(self, copy: Copy) -> bool:
        return self._monotonic() < copy.fresh_until

    def put(self, key: str, value: Value, ttl_s: float) -> None:
        """Keep a copy that Redis has for `ttl_s`. One that is larger than all may be is not kept."""
        self.drop(key)
        size = _size(value)
        if not self._max_entries or size > self._max_bytes or ttl_s <= 0:
            return
        now = self._monotonic()
        self._copies[key] = Copy(value, now + min(self._fresh_s, ttl_s), now + ttl_s)
        self.bytes += size
        while len(self._copies) > self._max_entries or self.bytes > self._max_bytes:
            self.drop(next(iter(self._copies)))

    def drop(self, key: str) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self.bytes -= _size(copy.value)


def _size(value: Value) -> int:
    return len(value.payload) + OVERHEAD_BYTES
