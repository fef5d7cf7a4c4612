"""One channel on one worker: its receivers and what waits for them."""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.config import Namespace
from gateway.hub import forms
from protocol.encodings import Encoding
from protocol.frames import Framing
from protocol.replies import Publication

if TYPE_CHECKING:
    from gateway.hub.feed import Feed
    from gateway.hub.interest import Acquisition


class Receiver(Protocol):
    """What the hub needs of a connection."""

    @property
    def encoding(self) -> Encoding:
        """How its messages look; never changes."""
        ...

    @property
    def framing(self) -> Framing:
        """How they are framed; never changes. The same object for all that can share frames."""
        ...

    @property
    def deliver(self) -> Callable[[bytes], bool | None]:
        """Write finished WebSocket frames, shared with other receivers. On the path of every delivery.

        The call gives True when nothing was written because the send budget is used up. Looked up for each delivery:
        it may change from one to the next.
        """
        ...

    def too_slow(self) -> None:
        """Close it for being slow (3008)."""
        ...

    def subscription_lost(self, channel: str) -> None:
        """The subscription cannot go on: Redis refused the channel, or publications are gone for good."""
        ...


class Held(enum.Enum):
    """Whether the worker is subscribed to a channel in Redis."""

    NO = 0
    PENDING = 1
    YES = 2


Audience = tuple[tuple[Framing, int, tuple[Receiver, ...]], ...]
"""Receivers by framing and shape (`gateway.hub.forms`), frozen for one pass."""


class Channel:
    """The state of one channel. Exists while it has receivers, is being acquired, or lingers in Redis."""

    __slots__ = (
        "_audience",
        "acquisitions",
        "arrived_s",
        "base",
        "behind",
        "changes",
        "feed",
        "followed_s",
        "held",
        "name",
        "namespace",
        "newest",
        "number",
        "passes",
        "pending",
        "pending_bytes",
        "receivers",
        "redis_name",
        "refused",
        "running",
        "shapes",
        "waiting",
    )

    def __init__(self, name: str, redis_name: bytes, namespace: Namespace, number: int = 1) -> None:
        """`number`: stands for the name in pushes; no other channel of the worker has it."""
        self.name = name
        self.number = number
        self.redis_name = redis_name
        self.namespace = namespace
        self.receivers: dict[Receiver, int] = {}
        """Who passes deliver to, with the number of passes that had begun when it joined: it gets later ones."""
        self.behind: dict[Receiver, int] = {}
        """Subscribers that are not in the passes: the offset up to which each has everything."""
        self.refused: dict[Receiver, int] = {}
        """`conflate`: receivers that a pass skipped, with the number of that pass."""
        self.shapes: dict[Receiver, int] = {}
        """The shape of each subscription that has not the default one (`gateway.hub.forms`)."""
        self.base: Publication | None = None
        """What the last pass ended with, while somebody wants deltas."""
        self.feed: Feed | None = None
        """None = a channel without history."""
        self.passes = 0
        """Passes that have begun."""
        self.newest: Publication | None = None
        """`conflate`: the newest publication that a pass has had."""
        self._audience: Audience | None = None
        self.changes = 0
        """Times that a receiver has left: a pass that sees it unchanged need not look for leavers."""
        self.pending: deque[tuple[Publication, int]] | None = None
        """Publications that wait for the next pass, with their payload bytes; None when there are none."""
        self.pending_bytes = 0
        self.arrived_s = 0.0
        """When the first of them came, on `time.perf_counter`; 0 = not measured."""
        self.followed_s = 0.0
        """When the one among them that is followed was published; 0 = none is."""
        self.running = False
        """Whether a pass is under way."""
        self.held = Held.NO
        self.acquisitions = 0
        """Sessions that are about to join."""
        self.waiting: list[Acquisition] | None = None
        """Who waits for Redis to confirm."""

    @property
    def deserted(self) -> bool:
        """Whether nobody is here."""
        return not self.receivers and not self.behind

    @property
    def idle(self) -> bool:
        """Whether nobody is here and nobody is about to come."""
        return not self.receivers and not self.behind and not self.acquisitions

    @property
    def ready(self) -> bool:
        """Whether one can join: Redis has not refused the channel, and of one with history the position is known."""
        return self.held is not Held.NO and (self.feed is None or self.feed.known)

    def shape(self, receiver: Receiver, shape: int) -> None:
        """The receiver joins and wants this shape."""
        if shape != forms.DEFAULT:
            self.shapes[receiver] = shape

    def freshen(self, receivers: Iterable[Receiver]) -> None:
        """They have missed something: the next publication comes in full."""
        for receiver in receivers:
            if (shape := self.shapes.get(receiver, forms.DEFAULT)) & forms.DELTA:
                self.shapes[receiver] = shape | forms.FRESH
                self._audience = None

    def primed(self, receivers: Iterable[Receiver]) -> None:
        """They have had everything that the pass under way carries."""
        for receiver in receivers:
            if (shape := self.shapes.get(receiver, forms.DEFAULT)) & forms.FRESH:
                self.shapes[receiver] = shape & ~forms.FRESH
                self._audience = None

    def add(self, receiver: Receiver) -> None:
        self.receivers[receiver] = self.passes
        self._audience = None

    def remove(self, receiver: Receiver) -> bool:
        """False when it was not here."""
        self.shapes.pop(receiver, None)
        if self.receivers.pop(receiver, None) is not None:
            self._audience = None
            self.changes += 1
            return True
        return self.behind.pop(receiver, None) is not None

    def set_aside(self, receiver: Receiver, offset: int) -> None:
        """Passes leave it out from the next one on; it has everything up to `offset`."""
        if self.receivers.pop(receiver, None) is not None:
            self._audience = None
        self.behind[receiver] = offset

    def take_back(self, receiver: Receiver) -> None:
        """It has everything that passes have had: it is in the next one."""
        del self.behind[receiver]
        self.add(receiver)

    def audience(self) -> Audience:
        """The receivers by form. Kept until somebody comes or goes."""
        if self._audience is None:
            plain: defaultdict[Framing, list[Receiver]] = defaultdict(list)
            shaped: defaultdict[tuple[Framing, int], list[Receiver]] = defaultdict(list)
            shapes = self.shapes
            for receiver in self.receivers:
                if receiver in shapes:
                    shaped[receiver.framing, shapes[receiver]].append(receiver)
                else:
                    plain[receiver.framing].append(receiver)
            self._audience = (
                *((framing, forms.DEFAULT, tuple(receivers)) for framing, receivers in plain.items()),
                *((*form, tuple(receivers)) for form, receivers in shaped.items()),
            )
        return self._audience
