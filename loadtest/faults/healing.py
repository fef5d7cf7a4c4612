"""How long it takes until clients have everything again.

A client has healed when, on each of its channels, it has the first publication that was accepted after the fault had
ended, and so everything before it or word that it is gone. Times include the publisher's interval and what the
publisher itself needs to find Redis again, and the delays of the SDKs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.bench.stats import percentile
from loadtest.faults.record import Record
from loadtest.faults.subscriber import Subscriber


@dataclass(slots=True)
class Healed:
    """Of one fault. Times in ms, ascending; `unhealed` clients were not complete in time."""

    fault: str
    times_ms: list[int] = field(default_factory=list)
    unhealed: int = 0

    @property
    def p50_ms(self) -> int | None:
        return percentile(self.times_ms, 50) if self.times_ms else None

    @property
    def max_ms(self) -> int | None:
        return self.times_ms[-1] if self.times_ms else None


class Healing:
    """Made at the moment when a fault has ended. `look` it again and again."""

    def __init__(self, fault: str, subscribers: Sequence[Subscriber], record: Record) -> None:
        self.healed = Healed(fault)
        self._record = record
        self._began_s = time.monotonic()
        self._left = list(subscribers)
        self._marks = {channel: record.mark(channel) for each in subscribers for channel in each.subscriptions}

    @property
    def left(self) -> int:
        """Clients that are not complete yet."""
        return len(self._left)

    def look(self) -> None:
        """Note who has become complete."""
        targets = {channel: self._record.first_after(channel, mark) for channel, mark in self._marks.items()}
        now_ms = round((time.monotonic() - self._began_s) * 1000)
        left = []
        for subscriber in self._left:
            for channel, subscription in subscriber.subscriptions.items():
                target = targets[channel]
                if target is None or not subscription.subscribed or not subscription.ledger.reached(target):
                    left.append(subscriber)
                    break
            else:
                self.healed.times_ms.append(now_ms)
        self._left = left
        self.healed.unhealed = len(left)
