"""The gateway's rules as a publisher follows them: read from Redis before the first publication, and kept current.

Publications wait for the rules only if the publisher has none, or has not looked for `MAX_AGE_S`. While it is in use,
it looks every `REFRESH_S` in the background. Invariant: callers that had to wait go on in the order of their calls.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.broker.backoff import Backoff
from gateway.broker.rules import RulesStore
from gateway.errors import BrokerError, BrokerRefused, BrokerUnavailable, PublisherClosed, PublishFailed
from gateway.publisher.messages import History, Rules
from gateway.tasks import TaskScope
from protocol.errors import EnvelopeError
from protocol.publish_rules import PublishRules

REFRESH_S: Final = 2.0
"""Age in seconds of rules that are in use and are read again."""
MAX_AGE_S: Final = 10.0
"""Age in seconds above which rules are read again before the next publication."""
NO_RULES: Final = "no gateway has stored its rules in this Redis; has one been started, with the same prefix?"


class GatewayRules:
    """The rules that gateways keep in Redis."""

    def __init__(self, store: RulesStore, tasks: TaskScope, backoff: Backoff, *, retry_for_s: float) -> None:
        self._store = store
        self._tasks = tasks
        self._backoff = backoff
        self._retry_for_s = retry_for_s
        self._rules: Rules | None = None
        self._read_at = 0.0
        self._reading: asyncio.Future[BrokerError | None] | None = None
        self._line: asyncio.Future[None] | None = None

    async def get(self, channel: str) -> Rules:
        """The current rules, for a publication to `channel`.

        Raises PublishFailed if for `retry_for_s` seconds Redis could not be reached or no gateway had stored any, and
        BrokerRefused. Rules that were read before stay in use while Redis is away.
        """
        if self._rules is not None and self._line is None and self._age_s() <= MAX_AGE_S:
            if self._age_s() > REFRESH_S:
                self._read()
            return self._rules
        loop = asyncio.get_running_loop()
        begun = loop.time()
        before, self._line = self._line, loop.create_future()
        mine = self._line
        try:
            if before is not None:
                await asyncio.shield(before)
            error = None
            if self._rules is None or self._age_s() > MAX_AGE_S:
                error = await asyncio.shield(self._read(since=begun))
            if self._rules is not None:
                return self._rules
            if isinstance(error, BrokerRefused | PublisherClosed):
                raise error
            raise PublishFailed(channel, 0, loop.time() - begun, str(error))
        finally:
            if before is None or before.done():
                mine.set_result(None)
            else:
                before.add_done_callback(lambda _before: mine.set_result(None))
            if self._line is mine:
                self._line = None

    def _age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._read_at

    def _read(self, since: float | None = None) -> asyncio.Future[BrokerError | None]:
        """Read, unless that is under way or has failed after `since`. The future gives why there are no rules."""
        reading = self._reading
        if reading is None or (reading.done() and (since is None or self._read_at < since)):
            self._reading = reading = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._try_to_read(reading)).add_done_callback(lambda _task: _end(reading))
        return reading

    async def _try_to_read(self, done: asyncio.Future[BrokerError | None]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_for_s
        self._backoff.reset()
        while True:
            error = await self._attempt()
            if self._rules is not None or isinstance(error, BrokerRefused) or loop.time() >= deadline:
                break
            await asyncio.sleep(min(self._backoff.next_delay(), max(0.0, deadline - loop.time())))
        if error is None or self._rules is None:
            self._read_at = loop.time()
        done.set_result(error)

    async def _attempt(self) -> BrokerError | None:
        """Why the rules could not be read this time."""
        try:
            stored = await self._store.read()
        except BrokerError as error:
            return error
        except EnvelopeError as error:
            return BrokerUnavailable(str(error))
        if stored is None:
            return BrokerUnavailable(NO_RULES)
        self._rules = rules_of(stored.rules)
        return None


def _end(reading: asyncio.Future[BrokerError | None]) -> None:
    """Reading is over: if it was cancelled, whoever waits learns that."""
    if not reading.done():
        reading.set_result(PublisherClosed("the publisher was closed before it knew the rules"))


def rules_of(stored: PublishRules) -> Rules:
    """The rules of a gateway, as publishers apply them."""
    return Rules(
        namespaces={
            name: None if rule is None else History(rule.size, rule.ttl_s) for name, rule in stored.namespaces.items()
        },
        max_bytes=stored.publication_bytes,
        channel_length=stored.channel_length,
    )
