"""Rows → publications → what became of them. The same for rows of a database and entries of a Redis Stream.

Rows go out in windows: what fits into one round trip, and nothing more before its answers are in. So when Redis fails
nothing newer can overtake what it did not take. Within a window everything is under way at once; a window ends before
a row whose key has a row in it that Redis has refused before, so that its successors wait to see what becomes of it:
after a refusal nothing more of that key is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from gateway.errors import BrokerError, BrokerFull, BrokerRefused, BrokerUnavailable, PublishInvalid
from gateway.publisher.messages import MAX_KEY_LENGTH, Message, Prepared, RawJSON, Rules
from gateway.publisher.sending import Sender
from gateway.relay.rows import Row

WINDOW: Final = 500
"""Rows in one round trip: as many commands as the queue sends at once, so that they succeed or fail together."""


class Outcome(NamedTuple):
    """What became of some rows. A row that is in no list was not sent, or nobody knows what became of it."""

    published: list[Row]
    refused: list[tuple[Row, str]]
    """Redis does not take these, with what it said."""
    invalid: list[tuple[Row, str]]
    """Nobody can publish these as they are, with the reason."""
    away: str
    """Why it ended early: Redis is away or full. "" = it did not."""


class RowPublisher:
    """Publishes rows under their event ids, so that Redis takes none twice."""

    def __init__(self, sender: Sender, forgetting: Sender, rules: Rules) -> None:
        """`sender` must be used by nobody else, not even to forget: a window is one round trip."""
        self._sender = sender
        self._forgetting = forgetting
        self._rules = rules

    async def publish(self, rows: Sequence[Row]) -> Outcome:
        """Publish `rows`, in order, until Redis is away."""
        outcome = Outcome([], [], [], "")
        ready: list[tuple[Row, Prepared]] = []
        for row in rows:
            try:
                ready.append((row, self._prepare(row)))
            except PublishInvalid as error:
                outcome.invalid.append((row, str(error)))
        held: set[str] = set()
        for window in windows(by_key(ready)):
            away = await self._send([each for each in window if each[0].key not in held], outcome)
            if away:
                return outcome._replace(away=away)
            held = {row.key for row, _ in outcome.refused}
        return outcome

    def forget(self, rows: Sequence[Row], after_s: float) -> None:
        """The rows are gone from where they came from: nobody will publish them again."""
        for row in rows:
            try:
                self._forgetting.forget(row.channel, row.event_id, after_s)
            except BrokerError:
                return  # Redis forgets them by itself, later

    def _prepare(self, row: Row) -> Prepared:
        if row.payload is None:
            raise PublishInvalid("payload", f"is larger than the {self._rules.max_bytes} bytes that the gateway takes")
        if not 0 < len(row.event_id) <= MAX_KEY_LENGTH or not row.event_id.isprintable():
            raise PublishInvalid("event_id", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
        data = RawJSON(row.payload.encode("utf-8", "surrogatepass"))
        return replace(self._rules.prepare(Message(channel=row.channel, data=data)), key=row.event_id)

    async def _send(self, window: Sequence[tuple[Row, Prepared]], outcome: Outcome) -> str:
        """One round trip. Why Redis takes nothing now, or ""."""
        if not window:
            return ""
        sent = [self._sender.send(prepared) for _, prepared in window]
        await asyncio.wait(sent)
        away = ""
        for (row, _), answer in zip(window, sent, strict=True):
            error = answer.exception()
            if error is None:
                outcome.published.append(row)
            elif isinstance(error, BrokerUnavailable | BrokerFull):
                away = str(error) or type(error).__name__
            elif isinstance(error, BrokerRefused):
                outcome.refused.append((row, str(error)))
            else:
                raise error
        return away


def by_key(ready: Sequence[tuple[Row, Prepared]]) -> list[tuple[Row, Prepared]]:
    """Rows of one key beside each other, in their order: those of one channel then go into one run of a script."""
    groups: dict[str, list[tuple[Row, Prepared]]] = {}
    for each in ready:
        groups.setdefault(each[0].key, []).append(each)
    return [each for group in groups.values() for each in group]


def windows(ready: Sequence[tuple[Row, Prepared]]) -> Iterator[Sequence[tuple[Row, Prepared]]]:
    """Cut where one round trip must end before the next begins."""
    begin = 0
    doubtful: set[str] = set()
    for index, (row, _) in enumerate(ready):
        if index > begin and (index - begin == WINDOW or row.key in doubtful):
            yield ready[begin:index]
            begin = index
            doubtful.clear()
        if row.attempts:
            doubtful.add(row.key)
    if begin < len(ready):
        yield ready[begin:]
