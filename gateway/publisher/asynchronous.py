"""`AsyncPublisher`: publishes to the gateway's channels from asyncio code."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from msgspec import UNSET, UnsetType

from gateway.broker.backoff import Backoff
from gateway.broker.connection import Connection
from gateway.broker.rules import RulesStore
from gateway.errors import PublisherClosed, PublishInvalid
from gateway.publisher.messages import History, Message, Prepared, Rules
from gateway.publisher.options import (
    CHANNEL_LENGTH,
    CONNECT_TIMEOUT_S,
    MAX_BYTES,
    RETRY_FOR_S,
    options_of_gateway,
    redis_settings,
)
from gateway.publisher.outbox import Outbox
from gateway.publisher.rules import GatewayRules
from gateway.publisher.sending import Sender
from gateway.tasks import TaskScope
from protocol.position import Position

BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 1.0
CHUNK: Final = 1000
"""Publications of one `publish_many` that wait at the same time."""


class AsyncPublisher:
    """Publishes to the gateway's channels; use it as `async with`, one per process and event loop.

    Concurrent publications share round trips and leave in the order of the calls. What a call returns from is in
    Redis. A publication with history is sent again while Redis is away, for `retry_for_s` seconds and the time of one
    last attempt, and its idempotency key keeps it from being taken twice; one without history is sent at most once.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "gw",
        namespaces: Mapping[str, History | None] | None = None,
        retry_for_s: float = RETRY_FOR_S,
        max_bytes: int = MAX_BYTES,
        channel_length: int = CHANNEL_LENGTH,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """`url`: as the gateway's `redis.url`, also Sentinel's or a cluster's. Nothing is opened before `async with`.
        `prefix` must be the gateway's.

        By default the publisher follows the rules that the gateway keeps in Redis: which namespaces exist, which of
        them have history, and how large a publication may be. Changes are seen within `MAX_AGE_S` seconds. To publish
        without any gateway, give the rules yourself: `namespaces`, the history of every namespace, `default` for
        channels without one; with it, `max_bytes` and `channel_length`.

        Raises ConfigError.
        """
        self._settings = redis_settings(url, prefix, connect_timeout_s)
        self._rules = (
            Rules(namespaces=dict(namespaces), max_bytes=max_bytes, channel_length=channel_length)
            if namespaces is not None
            else None
        )
        self._retry_for_s = retry_for_s
        self._session: _Session | None = None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, *, retry_for_s: float = RETRY_FOR_S) -> Self:
        """With the gateway's own TOML file at `path` and variables `GATEWAY_…`. Raises ConfigError."""
        return cls(**options_of_gateway(path), retry_for_s=retry_for_s)

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise PublisherClosed("the publisher is in use already")
        self._session = _Session(Connection(self._settings), self._settings.prefix, self._retry_for_s)
        self._session.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more, wait for what other tasks have under way, and close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        version: int = 0,
        version_epoch: str = "",
        history: History | UnsetType | None = UNSET,
    ) -> Position | None:
        """Publish `data`; arguments as the fields of `Message`. Returns its position, None without history.

        With a `key` that the channel knows, or a `version` that is not newer, nothing is published: the position is
        that of the publication that was taken, or the channel's newest.

        Raises PublishInvalid (a ValueError; nothing was sent), PublishFailed (Redis was away for too long: with
        history, calling again with the same `key` is safe), BrokerRefused, BrokerBusy, PublisherClosed. When the call
        is cancelled, the publication may or may not be delivered.
        """
        message = Message(
            channel=channel,
            data=data,
            tags=tags,
            key=key,
            version=version,
            version_epoch=version_epoch,
            history=history,
        )
        session = self._entered
        rules = self._rules or await session.rules.get(str(channel))
        return await session.outbox.put(rules.prepare(message))

    async def publish_many(self, messages: Iterable[Message]) -> list[Position | None]:
        """Publish all of `messages`, in order, many in a round trip; their positions.

        All are checked before the first is sent: PublishInvalid names the message by its index. Other errors as
        `publish`: the first is raised when nothing is under way any more, and at most 999 messages behind the failed
        one have been sent. With keys of your own, calling again with the same messages is safe.
        """
        session = self._entered
        rules = self._rules or await session.rules.get("")
        prepared: list[Prepared] = []
        for index, message in enumerate(messages):
            try:
                prepared.append(rules.prepare(message))
            except PublishInvalid as error:
                raise PublishInvalid(f"messages[{index}].{error.field}", error.problem) from error
        positions: list[Position | None] = []
        for start in range(0, len(prepared), CHUNK):
            chunk = [session.outbox.put(each) for each in prepared[start : start + CHUNK]]
            for answer in await asyncio.gather(*chunk, return_exceptions=True):
                if isinstance(answer, BaseException):
                    raise answer
                positions.append(answer)
        return positions

    @property
    def _entered(self) -> _Session:
        if self._session is None:
            raise PublisherClosed("use the publisher inside `async with`")
        return self._session


class _Session:
    """What an entered publisher holds."""

    def __init__(self, redis: Connection, prefix: str, retry_for_s: float) -> None:
        self._redis = redis
        self._commands = redis.queue()

        def backoff() -> Backoff:
            return Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, random.random)

        self.outbox = Outbox(Sender(self._commands, prefix).send, backoff(), retry_for_s=retry_for_s)
        self._tasks = TaskScope(self.outbox.fail)
        self.rules = GatewayRules(
            RulesStore(self._commands, prefix=prefix), self._tasks, backoff(), retry_for_s=retry_for_s
        )

    def start(self) -> None:
        self._tasks.spawn(self._commands.run())
        self._tasks.spawn(self.outbox.run())

    async def aclose(self) -> None:
        try:
            self.outbox.refuse("the publisher is closed")
            await self.outbox.wait_empty()
        finally:
            await self._tasks.aclose()
            await self._redis.aclose()
