"""The gateway's rules for publications in Redis: written by gateways, read by publishers.

Invariant: a gateway replaces the rules when it starts or reloads, and afterwards restores them only if they are gone.
So of several nodes the one that was configured last decides, and a rolling change does not go back and forth.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, NoReturn

from gateway.broker.commands import CommandQueue
from gateway.broker.scripts import Script
from gateway.errors import BrokerError
from gateway.log import get_logger
from protocol.errors import EnvelopeError
from protocol.publish_rules import RULES_FIELD, VERSION_FIELD, PublishRules, decode_rules, encode_rules
from protocol.redis_contract import rules_key

LOOK_S: Final = 2.0
"""Seconds between two looks whether Redis still has the rules."""


class StoredRules(NamedTuple):
    """Rules as they are in Redis."""

    version: int
    rules: PublishRules


class RulesStore:
    """Reads and writes the rules. Every call raises BrokerError."""

    def __init__(self, commands: CommandQueue, *, prefix: str) -> None:
        self._commands = commands
        self._key = rules_key(prefix)
        self._script = Script("rules")

    async def replace(self, rules: PublishRules) -> int:
        """Store `rules`; their version, which is a new one if they differ from those in Redis."""
        document = encode_rules(rules)
        return int(await self._script.submit(self._commands, (self._key,), (document,), size=len(document)))

    async def exists(self) -> bool:
        """Whether there are any."""
        return bool(await self._commands.submit("EXISTS", self._key))

    async def read(self) -> StoredRules | None:
        """The rules, None if no gateway has stored any. Raises EnvelopeError if they cannot be read."""
        document, version = await self._commands.submit("HMGET", self._key, RULES_FIELD, VERSION_FIELD)
        if document is None:
            return None
        try:
            return StoredRules(int(version), decode_rules(bytes(document)))
        except (TypeError, ValueError) as error:
            raise EnvelopeError(f"rules without a version: {error}") from error


async def keep_rules(store: RulesStore, rules: PublishRules) -> NoReturn:
    """Store `rules`, and again when Redis has lost them, until cancelled."""
    log = get_logger()
    replaced = False
    while True:
        try:
            if not replaced or not await store.exists():
                version = await store.replace(rules)
                log.info("rules for publishers stored", version=version)
                replaced = True
        except BrokerError as error:
            log.debug("rules for publishers not stored", error=str(error))
        await asyncio.sleep(LOOK_S)
