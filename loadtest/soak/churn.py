"""Clients that come and go: each lives for a while, may stop reading for a part of it, leaves; another one comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.faults.ledger import Ledger
from loadtest.faults.subscriber import Subscriber, Surroundings

LIFE_S: Final = (0.5, 8.0)
"""Shortest and longest life of a client."""
SLOW: Final = 0.1
"""Share of the clients that stop reading for the middle third of their lives."""
CHANNELS: Final = 2
"""Channels of each client."""
SLOW_RECEIVE_BYTES: Final = 16_384
"""What the kernel takes for a client that does not read."""


@dataclass(slots=True)
class Lives:
    """What has been lived."""

    begun: int = 0
    connected: int = 0
    slow: int = 0
    doubled: int = 0
    out_of_order: int = 0

    def judge(self, ledgers: Sequence[Ledger]) -> None:
        """Add what one client's ledgers say."""
        for ledger in ledgers:
            self.doubled += ledger.doubled
            self.out_of_order += ledger.out_of_order


class Churn:
    """Keeps a number of clients alive until it is stopped."""

    def __init__(self, clients: int, channels: Sequence[str], around: Surroundings, *, seed: int) -> None:
        self.lives = Lives()
        self._channels = channels
        self._around = around
        self._random = random.Random(seed)
        self._clients = clients
        self._lanes: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """The first clients come, spread over a second."""
        loop = asyncio.get_running_loop()
        self._lanes = [loop.create_task(self._lane(number / self._clients)) for number in range(self._clients)]

    def check(self) -> None:
        """Raise what a lane has ended with, if one has."""
        for lane in self._lanes:
            if lane.done():
                lane.result()

    async def stop(self) -> None:
        """Everybody leaves at once."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while True:
            await self._live()

    async def _live(self) -> None:
        slow = self._random.random() < SLOW
        names = self._random.sample(self._channels, CHANNELS)
        user = f"user-{self.lives.begun % (2 * self._clients)}"
        client = Subscriber(user, names, self._around, SLOW_RECEIVE_BYTES if slow else 0)
        self.lives.begun += 1
        self.lives.slow += slow
        third_s = self._random.uniform(*LIFE_S) / 3
        try:
            client.start()
            await asyncio.sleep(third_s)
            self.lives.connected += client.live
            if slow:
                client.fall_asleep()
            await asyncio.sleep(third_s)
            client.wake_up()
            await asyncio.sleep(third_s)
        finally:
            client.close()
            self.lives.judge([each.ledger for each in client.subscriptions.values()])
