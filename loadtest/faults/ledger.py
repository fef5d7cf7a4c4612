"""What one subscription has got, by offset. Pure: replies and publications in, counts out.

A ledger covers one stretch after another. A stretch begins at a position that the server has named, at the first
subscription or when it said that the log has a new epoch, and goes on with every publication. Within a stretch every
offset must come once, in order. A client that is told `recovered: false` although the epoch is the same has lost what
lies between: the log still had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.position import Position

Accepted = Mapping[str, Mapping[int, int]]
"""What the publisher was told of one channel: epoch → offset → sequence number, epochs in their order."""


@dataclass(slots=True)
class Stretch:
    """Offsets of `epoch` from `after` + 1 to `upto`; `missing` are those that have not come."""

    epoch: str
    after: int
    upto: int
    missing: set[int] = field(default_factory=set)


class Ledger:
    """One subscription of one client, for as long as the client lives."""

    __slots__ = ("delivered", "doubled", "out_of_order", "recovered", "stretches", "told")

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.delivered = 0
        """Publications that were the next one."""
        self.recovered = 0
        """How many of them came with a reply."""
        self.doubled = 0
        self.out_of_order = 0
        """Publications that came after a later one."""
        self.told = 0
        """Times that it was told that publications are gone: a new epoch."""

    @property
    def position(self) -> Position | None:
        """Up to where it has everything it was promised; None before the first reply."""
        if not self.stretches:
            return None
        last = self.stretches[-1]
        return Position(offset=last.upto, epoch=last.epoch)

    def subscribed(self, position: Position, *, recovered: bool) -> None:
        """A reply without publications, or before they are taken: the server's position, and what it says of ours."""
        last = self.stretches[-1] if self.stretches else None
        if last is not None and position.epoch == last.epoch:
            if not recovered:
                last.missing.update(range(last.upto + 1, position.offset + 1))
                last.upto = max(last.upto, position.offset)
            return
        if last is not None:
            self.told += 1
        self.stretches.append(Stretch(position.epoch, position.offset, position.offset))

    def take(self, offset: int) -> None:
        """A publication, live or with a reply."""
        stretch = self.stretches[-1]
        if offset == stretch.upto + 1:
            stretch.upto = offset
            self.delivered += 1
        elif offset > stretch.upto:
            stretch.missing.update(range(stretch.upto + 1, offset))
            stretch.upto = offset
            self.delivered += 1
        elif offset in stretch.missing:
            stretch.missing.discard(offset)
            self.out_of_order += 1
            self.delivered += 1
        else:
            self.doubled += 1

    def reached(self, position: Position) -> bool:
        """Whether it is at `position` or past it, in the same epoch."""
        last = self.stretches[-1] if self.stretches else None
        return last is not None and last.epoch == position.epoch and last.upto >= position.offset

    def describe(self) -> str:
        """Its stretches, and what is missing in them."""
        return ", ".join(
            f"{each.epoch} {each.after}–{each.upto}" + (f" without {sorted(each.missing)}" if each.missing else "")
            for each in self.stretches
        )

    def lost(self, accepted: Accepted) -> int:
        """How many publications never came, though it was not told so. `accepted` is of its channel.

        Offsets that were skipped count whether or not the publisher knows of them: who sees offset 7 after 5 can
        only think that 6 is lost.
        """
        count = sum(len(stretch.missing) for stretch in self.stretches)
        if not self.stretches:
            return count + sum(map(len, accepted.values()))
        last = self.stretches[-1]
        epochs = list(accepted)
        if last.epoch not in accepted:
            # An epoch in which nothing was accepted can only be the newest one.
            return count
        count += sum(offset > last.upto for offset in accepted[last.epoch])
        later = epochs[epochs.index(last.epoch) + 1 :]
        return count + sum(len(accepted[epoch]) for epoch in later)
