"""What the methods of the HTTP API do in Redis, and what their callers hear when it does not work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from gateway.broker import ChannelLog, PresenceStore, RevocationStore
from gateway.control.answers import ApiError
from gateway.errors import BrokerBusy, BrokerRefused, BrokerUnavailable
from protocol.codes import INTERNAL, TOO_MANY_REQUESTS
from protocol.control_messages import ControlMessage, encode_control
from protocol.redis_contract import control_channel, publish_channel


class RunsCommands(Protocol):
    """What is needed of `gateway.broker.CommandQueue`."""

    def submit(self, *arguments: Any, size: int = 0) -> asyncio.Future[Any]: ...


class Bus(NamedTuple):
    """The ways to Redis."""

    commands: RunsCommands
    log: ChannelLog
    presence: PresenceStore
    revocations: RevocationStore
    prefix: str

    def publish(self, channel: str, payload: bytes) -> asyncio.Future[Any]:
        """Publish a payload of the Redis contract, at most once. Raises BrokerError, as its future does."""
        return self.commands.submit("PUBLISH", publish_channel(self.prefix, channel), payload, size=len(payload))

    async def tell(self, message: ControlMessage) -> int:
        """Tell every worker on every node; the number of workers that listen, never 0. Raises ApiError."""
        payload = encode_control(message)
        with broker_errors():
            workers = await self.commands.submit("PUBLISH", control_channel(self.prefix), payload, size=len(payload))
        if not workers:
            raise ApiError(INTERNAL, "temporary, no worker listens to Redis: nothing was done")
        return int(workers)


@contextlib.contextmanager
def broker_errors() -> Iterator[None]:
    """What goes wrong with Redis, as what the caller hears: 111 when too much waits, else 100."""
    try:
        yield
    except BrokerUnavailable as error:
        raise ApiError(INTERNAL, "temporary, Redis cannot be reached; it may or may not have been done") from error
    except BrokerBusy as error:
        raise ApiError(TOO_MANY_REQUESTS, f"temporary, {error}") from error
    except BrokerRefused as error:
        raise ApiError(INTERNAL, f"Redis refused: {error}") from error
