"""The relay: claims rows, publishes them, takes them out of the table. At least once for Redis, once for clients.

A row is published under its event id and deleted afterwards, so whatever ends in between leads to its being published
again, and Redis, which knows the id, takes nothing. Once the row is gone for good the id is forgotten soon: nobody will
come back with it. Redis or a database that is away costs a row nothing; one that Redis refuses waits for its next
attempt, and rows of the same key wait behind it, until it is published or given up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from gateway.broker.backoff import Backoff
from gateway.config import Outbox
from gateway.errors import SqlError
from gateway.log import get_logger
from gateway.relay.counters import OutboxReport
from gateway.relay.publishing import Outcome, RowPublisher
from gateway.relay.rows import Claim, Dead, Retry, Row, Store
from gateway.relay.schema import is_missing
from gateway.storage.sql import Database

FORGET_S: Final = 300.0
"""Time for which an event id is known after its row is gone: for a backend that inserts the same event again because it
did not hear of its commit."""
AWAY_BASE_S: Final = 0.05
AWAY_CAP_S: Final = 2.0
FIGURES_S: Final = 2.0
"""Time between two looks how much there is."""
ERROR_LENGTH: Final = 500


class Relay:
    """Relays one database. `run` until cancelled."""

    def __init__(
        self,
        database: Database,
        store: Store,
        publishers: Sequence[RowPublisher],
        settings: Outbox,
        report: OutboxReport,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Each of `publishers` claims for itself: while one waits for the database, another publishes. `draw`: floats
        in [0, 1)."""
        self._database = database
        self._store = store
        self._publishers = publishers
        self._settings = settings
        self._report = report
        self._draw = draw
        self._hints = [asyncio.Event() for _ in publishers]
        self._troubles: dict[str, str] = {}
        """What is away, with what it said; while it is not empty the outbox is not relayed."""
        self._log = get_logger()

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            for publisher, hint in zip(self._publishers, self._hints, strict=True):
                group.create_task(self._relay_on(publisher, hint))
            group.create_task(self._hear())
            group.create_task(self._look())

    async def step(self, publisher: RowPublisher) -> Outcome:
        """One claim: what became of its rows. Raises SqlError; then they are as they were."""
        async with self._store.claim() as claim:
            outcome = await publisher.publish(claim.rows)
            self._judge(claim, outcome)
        counted = self._report.counted
        counted.published += len(claim.published)
        counted.retried += len(claim.retry)
        counted.dead += len(claim.dead)
        publisher.forget(outcome.published, FORGET_S)
        return outcome

    def _judge(self, claim: Claim, outcome: Outcome) -> None:
        claim.published += [row.id for row in outcome.published]
        for row, error in outcome.refused:
            if row.attempts + 1 < self._settings.attempts:
                claim.retry.append(
                    Retry(row.id, retry_delay_s(self._settings, row.attempts, self._draw()), error[:ERROR_LENGTH])
                )
            else:
                self._give_up(claim, row, f"refused {row.attempts + 1} times, at last with: {error}")
        for row, error in outcome.invalid:
            self._give_up(claim, row, error)

    def _give_up(self, claim: Claim, row: Row, error: str) -> None:
        claim.dead.append(Dead(row.id, error[:ERROR_LENGTH]))
        self._log.warning("outbox row given up", event_id=row.event_id, channel=row.channel, error=error[:ERROR_LENGTH])

    async def _relay_on(self, publisher: RowPublisher, hint: asyncio.Event) -> NoReturn:
        backoff = Backoff(AWAY_BASE_S, AWAY_CAP_S, self._draw)
        while True:
            hint.clear()
            try:
                outcome = await self.step(publisher)
            except SqlError as error:
                self._in_trouble("database", error)
                await asyncio.sleep(backoff.next_delay())
                continue
            if outcome.away:
                self._in_trouble("redis", outcome.away)
            elif outcome.published or outcome.refused:  # an empty claim says nothing: another may have the rows
                self._out_of_trouble("redis")
            self._out_of_trouble("database")
            if outcome.away:
                await asyncio.sleep(backoff.next_delay())
                continue
            backoff.reset()
            if not (outcome.published or outcome.refused or outcome.invalid):
                await _wait(hint, self._settings.poll_interval_s)

    async def _hear(self) -> NoReturn:
        """Wake the claimers. Hints may be lost: they only make it sooner."""
        while True:
            try:
                async for _ in self._store.hints():
                    for hint in self._hints:
                        hint.set()
            except SqlError as error:
                self._log.debug("outbox hints lost", error=str(error))
            await asyncio.sleep(AWAY_CAP_S * self._draw())

    async def _look(self) -> NoReturn:
        """How much there is."""
        while True:
            try:
                figures = self._report.figures = await self._store.figures()
            except SqlError:
                self._report.figures = None
            else:
                if not figures.oldest_s:
                    self._out_of_trouble("redis")  # nothing is left that it would have to take
            self._report.pool = self._database.pool_status()
            await asyncio.sleep(FIGURES_S)

    def _in_trouble(self, part: str, reason: object) -> None:
        self._report.counted.interrupted += 1
        if not self._troubles:
            missing = isinstance(reason, SqlError) and is_missing(reason)
            hint = {"hint": "`nexus-gateway outbox init` makes the table"} if missing else {}
            self._log.warning("outbox not relayed", part=part, error=str(reason), **hint)
        self._troubles[part] = f"{part}: {reason}"
        self._report.trouble = self._troubles[part]

    def _out_of_trouble(self, part: str) -> None:
        if self._troubles.pop(part, "") and not self._troubles:
            self._log.info("outbox relayed again")
        self._report.trouble = next(iter(self._troubles.values()), "")


def retry_delay_s(settings: Outbox, refusals: int, drawn: float) -> float:
    """Doubled with each refusal; drawn from the second half, so that what failed together comes apart."""
    whole = min(settings.backoff_max_s, settings.backoff_s * 2.0 ** min(refusals, 32))
    return whole * (1 + drawn) / 2


async def _wait(hint: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await hint.wait()
    except TimeoutError:
        return
