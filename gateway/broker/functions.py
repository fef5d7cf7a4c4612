"""The function `gw_publish` for backends that speak to Redis themselves: kept loaded where Redis has functions.

Redis 7 and newer keep functions beside the data: FLUSHALL leaves them, a restart without data loses them. Redis 6.2
has none; there, and everywhere, the same source runs with EVALSHA.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn, Protocol

from gateway.broker.scripts import LIBRARY, publish_function
from gateway.errors import BrokerError, BrokerRefused
from gateway.log import get_logger

LOOK_S: Final = 15.0
"""Time between two looks whether Redis still has the function."""


class RunsCommands(Protocol):
    """What is needed of `gateway.broker.CommandQueue`."""

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]: ...


async def keep_functions(commands: RunsCommands) -> NoReturn:
    """Load the function, and again when Redis has lost it, until cancelled. Says once why it cannot."""
    log = get_logger()
    said = False
    loaded = False
    while True:
        try:
            if not loaded or not await commands.submit("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY):
                await commands.submit("FUNCTION", "LOAD", "REPLACE", publish_function())
                log.info("redis function loaded", function="gw_publish")
                loaded = True
        except BrokerRefused as error:
            if not said:
                said = True
                if "unknown command" in str(error).lower():
                    log.info("redis has no functions before version 7: backends publish with EVALSHA")
                else:
                    log.warning("redis function not loaded: backends publish with EVALSHA", error=str(error))
        except BrokerError as error:
            log.debug("redis function not checked", error=str(error))
        await asyncio.sleep(LOOK_S)
