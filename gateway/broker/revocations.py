"""Tokens that are no longer accepted, as Redis remembers them: stored and told to every worker at one moment.

Each is forgotten when no token that it concerns can be valid any longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from gateway.broker.commands import CommandQueue
from gateway.broker.scripts import Script
from gateway.errors import BrokerRefused
from protocol.control_messages import Revoked, decode_control, encode_control
from protocol.errors import EnvelopeError
from protocol.redis_contract import control_channel, revoked_key, revoked_until_key

MAX_REVOKED: Final = 100_000
"""Revocations that are remembered at once."""
CHUNK: Final = 1000
"""Revocations in one read, about."""


class RevocationStore:
    """Writes and reads revocations. Every call raises BrokerError."""

    def __init__(self, commands: CommandQueue, *, prefix: str) -> None:
        self._commands = commands
        self._prefix = prefix
        self._revoke = Script("revoke")
        self._scan = Script("hash_scan")

    async def revoke(self, revoked: Revoked) -> None:
        """Remember a revocation and tell every worker. Raises BrokerRefused when too many are remembered."""
        payload = encode_control(revoked)
        keys = (revoked_key(self._prefix), revoked_until_key(self._prefix))
        arguments = (control_channel(self._prefix), what(revoked), payload, revoked.expire_at, MAX_REVOKED)
        if await self._revoke.submit(self._commands, keys, arguments, size=len(payload)) == 0:
            raise BrokerRefused(f"{MAX_REVOKED} revocations are remembered already")

    async def read(self) -> AsyncGenerator[list[Revoked], None]:
        """All revocations, some at a time. What cannot be read is left out."""
        cursor: Any = b"0"
        while True:
            cursor, flat = await self._answer(cursor)
            yield [revoked for payload in flat[1::2] if (revoked := _decoded(payload)) is not None]
            if cursor == b"0":
                return

    def _answer(self, cursor: Any) -> asyncio.Future[Any]:
        return self._scan.submit(self._commands, (revoked_key(self._prefix),), (cursor, CHUNK))


def what(revoked: Revoked) -> str:
    """What is revoked, as one text: said again, it takes the place of what was said before."""
    return f"token:{revoked.token_id}" if revoked.token_id else f"before:{revoked.issued_before}:{revoked.user}"


def _decoded(payload: bytes) -> Revoked | None:
    try:
        message = decode_control(payload)
    except EnvelopeError:
        return None
    return message if isinstance(message, Revoked) else None
