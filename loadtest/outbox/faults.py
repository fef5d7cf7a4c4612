"""50,000 rows through three relays while what is around them fails; and what a client has got in the end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from loadtest.bench.errors import BenchError
from loadtest.bench.stages import Stages
from loadtest.faults.gateway import NAMESPACE, Gateway
from loadtest.faults.redis_server import RedisServer
from loadtest.outbox.databases import Database
from loadtest.outbox.watcher import Watcher, watching

CHANNELS: Final = tuple(f"{NAMESPACE}:room-{number}" for number in range(50))
CHUNK: Final = 500
"""Rows of one transaction of the backend."""
END_DEADLINE_S: Final = 180.0


@dataclass(slots=True)
class Verdict:
    """What the client has got."""

    database: str
    rows: int
    seconds: float = 0.0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    killed_in_between: int = 0
    """Rows that were published and still in the table when the relays were killed."""
    wrong: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """One sentence for each requirement that is not met."""
        counts = (("lost", self.lost), ("doubled", self.doubled), ("out of order", self.out_of_order))
        found = [f"{self.database}: {name}: {count:,}" for name, count in counts if count]
        return found + [f"{self.database}: {each}" for each in self.wrong]


def judge(verdict: Verdict, watcher: Watcher, rows: int) -> None:
    """Compare what came with what was inserted: row `n` on channel `n` modulo their number."""
    for index, channel in enumerate(CHANNELS):
        got = watcher.got[channel]
        expected = set(range(index, rows, len(CHANNELS)))
        verdict.lost += len(expected - set(got))
        verdict.doubled += len(got) - len(set(got))
        verdict.out_of_order += sum(later < earlier for earlier, later in pairwise(got))


class Faults:
    """One run on one database."""

    def __init__(
        self,
        database: Database,
        gateways: Sequence[Gateway],
        redis: RedisServer,
        stages: Stages,
        *,
        rows: int,
        away_s: float,
    ) -> None:
        self._database = database
        self._gateways = gateways
        self._redis = redis
        self._stages = stages
        self._rows = rows
        self._away_s = away_s
        self._inserted = 0
        self._verdict = Verdict(database.name, rows)

    async def run(self) -> Verdict:
        """Insert, break, wait, judge."""
        begin = time.monotonic()
        faults: Sequence[tuple[str, Callable[[Watcher], Awaitable[None]]]] = (
            ("three relays at once", self._nothing),
            ("relays killed between publish and delete", self._kill),
            (f"Redis silent for {self._away_s:g} s", self._silence),
            (f"Redis killed for {self._away_s:g} s", self._kill_redis),
            ("database restarted or locked", self._restart),
        )
        async with watching(self._gateways[0].port, self._gateways[0].token("watcher"), CHANNELS) as watcher:
            share = self._rows // len(faults)
            for number, (name, fault) in enumerate(faults):
                upto = self._rows if number == len(faults) - 1 else share * (number + 1)
                with self._stages.stage(f"{self._database.name}: {name}"):
                    await self._insert(upto)
                    await fault(watcher)
            await self._end(watcher)
            judge(self._verdict, watcher, self._rows)
        self._verdict.seconds = time.monotonic() - begin
        return self._verdict

    async def _insert(self, upto: int) -> None:
        while self._inserted < upto:
            numbers = range(self._inserted, min(upto, self._inserted + CHUNK))
            await self._database.insert([(f"event-{n}", CHANNELS[n % len(CHANNELS)], str(n)) for n in numbers])
            self._inserted = numbers.stop

    async def _nothing(self, _watcher: Watcher) -> None:
        """The relays share the work undisturbed."""

    async def _kill(self, watcher: Watcher) -> None:
        """SIGKILL to all of them while there is a row that a client has and that is in the table."""
        until = time.monotonic() + END_DEADLINE_S
        while time.monotonic() < until:
            before = watcher.count
            await self._insert(min(self._rows, self._inserted + CHUNK))
            await watcher.wait(before + 1)
            async with self._database.no_deletes():
                left = {int(event_id.partition("-")[2]) for event_id in await self._database.left()}
                await asyncio.sleep(0.5)  # what is published meanwhile reaches the client
                between = left & watcher.at.keys()
                if between:
                    for gateway in self._gateways:
                        started = [each for each in gateway.logged("worker started") if each["worker"] == "control"]
                        os.kill(started[-1]["pid"], signal.SIGKILL)
                    self._verdict.killed_in_between = len(between)
                    return
        self._verdict.wrong.append("no relay was ever between publish and delete")

    async def _silence(self, _watcher: Watcher) -> None:
        self._redis.freeze()
        await asyncio.sleep(self._away_s)
        self._redis.thaw()

    async def _kill_redis(self, _watcher: Watcher) -> None:
        self._redis.kill()
        await asyncio.sleep(self._away_s)
        await asyncio.to_thread(self._redis.start)

    async def _restart(self, _watcher: Watcher) -> None:
        await self._database.restart()

    async def _end(self, watcher: Watcher) -> None:
        until = time.monotonic() + END_DEADLINE_S
        with self._stages.stage(f"{self._database.name}: everything arrives", self._rows) as progress:
            while len(watcher.at) < self._rows or await self._database.left():
                progress(len(watcher.at))
                for gateway in self._gateways:
                    gateway.check_alive()
                if time.monotonic() > until:
                    self._verdict.wrong.append(f"{len(await self._database.left()):,} rows are still in the table")
                    return
                await asyncio.sleep(0.2)
        if not watcher.count:
            raise BenchError("the client has got nothing at all")
