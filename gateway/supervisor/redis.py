"""Keeps the embedded Redis running, as `keeper` does with workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import StartupError
from gateway.log import get_logger
from gateway.supervisor.keeper import RestartDelay, Timing

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.storage.embedded import EmbeddedRedis


async def keep_redis(redis: EmbeddedRedis, *, timing: Timing, clock: Clock, random: Callable[[], float]) -> None:
    """Start `redis` again whenever it ends. Runs until cancelled; the caller has started it, and stops it afterwards.

    Workers see a lost connection meanwhile and come back by themselves: the server has the same socket again.
    """
    log = get_logger()
    delay = RestartDelay(timing, random)
    while True:
        started = clock.monotonic()
        reason = await redis.wait_ended()
        log.error("embedded redis ended", reason=reason, lost="messages under way, history, presence")
        restarted = False
        lived_s = clock.monotonic() - started
        while not restarted:
            await redis.stop()
            await asyncio.sleep(delay.after(lived_s))
            lived_s = 0.0
            try:
                await redis.start()
                restarted = True
                log.info("embedded redis started", server=str(redis.server), again=True)
            except StartupError as error:
                log.error("embedded redis failed", reason=str(error))  # noqa: TRY400 - the message explains itself
