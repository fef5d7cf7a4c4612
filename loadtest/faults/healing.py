"""How long it takes until clients have everything again.

A client has healed when, on each of its channels, it has the first publication that was accepted after the fault had
ended, and so everything before it or word that it is gone. When a log gets a new epoch meanwhile (a master that was cut
off took a last publication when it came back), it is the first in the new one. Times include the publisher's interval
and what the publisher itself needs to find Redis again, and the delays of the SDKs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.bench.stats import percentile
from loadtest.faults.record import Record
from loadtest.faults.subscriber import Subscriber
from protocol.position import Position

DESCRIBED: Final = 3
"""Clients of which the report says what they have."""


@dataclass(slots=True)
class Healed:
    """Of one fault. Times in ms, ascending; `unhealed` clients were not complete in time."""

    fault: str
    times_ms: list[int] = field(default_factory=list)
    unhealed: int = 0
    states: list[str] = field(default_factory=list)
    """What some of the unhealed have, and what they lack."""

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
        targets = self._targets()
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

    def give_up(self) -> None:
        """Note what those who are left have."""
        targets = self._targets()
        for subscriber in self._left[:DESCRIBED]:
            for channel, subscription in subscriber.subscriptions.items():
                target, ledger = targets[channel], subscription.ledger
                if target is None or not subscription.subscribed or not ledger.reached(target):
                    state = "" if subscription.subscribed else ", not subscribed"
                    wanted = f"{target.epoch} {target.offset}" if target is not None else "a publication"
                    self.healed.states.append(
                        f"{subscriber.user} has {ledger.describe()} of {channel}{state}, not {wanted}"
                    )

    def _targets(self) -> dict[str, Position | None]:
        """What each channel's subscribers must have."""
        return {channel: self._record.first_after(channel, mark) for channel, mark in self._marks.items()}
