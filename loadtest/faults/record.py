"""What the publisher was told, and what the first subscriber of each offset saw there."""

from __future__ import annotations

from collections import Counter, defaultdict

from loadtest.faults.ledger import Accepted
from protocol.position import Position


class Record:
    """Shared by the publisher and all clients. `wrong` names what no gateway and no Redis may do, by count."""

    def __init__(self) -> None:
        self.published = 0
        """Publications that were accepted."""
        self.discarded = 0
        """Offsets at which subscribers got another publication than was accepted, before they were told of a new
        epoch. Known after `compare`."""
        self.wrong: Counter[str] = Counter()
        self._accepted: defaultdict[str, dict[str, dict[int, int]]] = defaultdict(dict)
        self._in_order: defaultdict[str, list[Position]] = defaultdict(list)
        self._seen: dict[tuple[str, str, int], int] = {}

    def accept(self, channel: str, position: Position, sequence: int) -> None:
        """The publisher was told that `sequence` is at `position`."""
        offsets = self._accepted[channel].setdefault(position.epoch, {})
        if position.offset in offsets:
            self.wrong["two publications accepted at one offset"] += 1
        offsets[position.offset] = sequence
        self._in_order[channel].append(position)
        self.published += 1

    def see(self, channel: str, epoch: str, offset: int, sequence: int) -> None:
        """A subscriber got `sequence` at that position. Everybody must get the same."""
        if self._seen.setdefault((channel, epoch, offset), sequence) != sequence:
            self.wrong["subscribers got different publications at one offset"] += 1

    def accepted(self, channel: str) -> Accepted:
        """Of one channel."""
        return self._accepted[channel]

    def newest(self, channel: str) -> Position | None:
        """The highest offset that was accepted in the newest epoch."""
        epochs = self._accepted[channel]
        if not epochs:
            return None
        epoch, offsets = next(reversed(epochs.items()))
        return Position(offset=max(offsets), epoch=epoch)

    def mark(self, channel: str) -> int:
        """How many have been accepted, for `first_after`."""
        return len(self._in_order[channel])

    def first_after(self, channel: str, mark: int) -> Position | None:
        """The first that was accepted after `mark`, in the epoch of the newest; None while there is none.

        Nobody need have what was accepted in an epoch that has ended: the new one says that it is gone.
        """
        later = self._in_order[channel][mark:]
        return next((each for each in later if each.epoch == later[-1].epoch), None)

    def compare(self, *, replicated: bool = False) -> None:
        """Count what subscribers got at an offset where the publisher was told of another publication.

        With replicas (`replicated`) that is not wrong in an epoch that has ended: a master may deliver what its
        successor never gets, and the new epoch is how subscribers are told.
        """
        for channel, epochs in self._accepted.items():
            newest = next(reversed(epochs))
            for epoch, offsets in epochs.items():
                for offset, sequence in offsets.items():
                    if self._seen.get((channel, epoch, offset), sequence) == sequence:
                        continue
                    if epoch == newest or not replicated:
                        self.wrong["subscribers got another publication than was accepted at that offset"] += 1
                    else:
                        self.discarded += 1
