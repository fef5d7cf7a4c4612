"""One publication into the pipeline that is being filled: to the channel's log, or to whoever listens."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.broker.commands import CommandQueue
from gateway.broker.log import DONE_TTL_S, ChannelLog, Published
from gateway.broker.scripts import converted
from gateway.publisher.messages import Prepared
from protocol.position import Position
from protocol.redis_contract import publish_channel


class Sender:
    """Hands publications to Redis, in the order of the calls."""

    def __init__(self, commands: CommandQueue, prefix: str, *, remember_s: float = DONE_TTL_S) -> None:
        """`remember_s`: time for which Redis knows idempotency keys."""
        self._commands = commands
        self._prefix = prefix
        self._remember_s = remember_s
        self._log = ChannelLog(commands, commands, prefix=prefix)

    def send(self, prepared: Prepared) -> asyncio.Future[Position | None]:
        """The future gives the position, None without history. Raises BrokerError, as the future does.

        With a key, a second publication to that channel delivers nothing, with or without history.
        """
        return converted(self._submit(prepared), _position)

    def forget(self, channel: str, key: str, after_s: float) -> None:
        """Nobody will publish with that key again, not after `after_s`. Raises BrokerBusy; nobody waits for it."""
        self._log.remember(channel, key, after_s)

    def _submit(self, prepared: Prepared) -> asyncio.Future[Any]:
        history = prepared.history
        if history is not None:
            return self._log.append(
                prepared.channel,
                prepared.payload,
                prepared.metadata,
                size=history.size,
                ttl_s=history.ttl_s,
                key=prepared.key,
                version=prepared.version,
                version_epoch=prepared.version_epoch,
                remember_s=self._remember_s,
            )
        if prepared.key:
            return self._log.pass_on_once(
                prepared.channel, prepared.payload, key=prepared.key, remember_s=self._remember_s
            )
        return self._commands.publish(publish_channel(self._prefix, prepared.channel), prepared.payload)


def _position(answer: Any) -> Position | None:
    return answer.position if isinstance(answer, Published) else None
