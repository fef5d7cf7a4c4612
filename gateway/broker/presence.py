"""Who is in a channel, as Redis knows it: a lease for each client, which its worker renews.

One script makes every change (`lua/presence.lua`, where the keys are described), so that the entries, the ends of their
leases and the number of clients of each user never disagree, and every change is told at the moment at which it is
made. Reading takes the entries in chunks. It does not look at leases: the next renewal of any worker ends those that
have run out, and tells so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from itertools import chain
from typing import Any, Final, Literal

import msgspec

from gateway.broker.commands import CommandQueue
from gateway.broker.scripts import Script, converted
from protocol.redis_contract import (
    PresenceChange,
    encode_presence_change,
    presence_at_key,
    presence_key,
    presence_users_key,
    publish_channel,
)
from protocol.replies import ClientInfo

CHUNK: Final = 1000
"""Entries of a channel that are in memory at once when it is read."""

Operation = Literal["enter", "restore", "leave", "renew"]

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ClientInfo)


class PresenceStore:
    """Changes and reads presence. Every method but `read` raises BrokerBusy at once, every future another BrokerError.

    `tell` = also publish each change to the channel (`join_leave`).
    """

    def __init__(self, commands: CommandQueue, *, prefix: str, lease_s: float) -> None:
        self._commands = commands
        self._prefix = prefix
        self._lease_ms = int(lease_s * 1000)
        self._script = Script("presence")
        self._stats = Script("presence_stats")
        self._read = Script("hash_scan")

    def enter(self, channel: str, entries: Mapping[str, ClientInfo], *, tell: bool) -> asyncio.Future[None]:
        """Clients, by id, are there from now on. Told of those that were not there."""
        return self._change("enter", channel, _pairs(entries), tell)

    def restore(self, channel: str, entries: Mapping[str, ClientInfo], *, tell: bool) -> asyncio.Future[None]:
        """Clients have been there all the time: told only of those whose leave was told since."""
        return self._change("restore", channel, _pairs(entries), tell)

    def leave(self, channel: str, entries: Mapping[str, ClientInfo | None], *, tell: bool) -> asyncio.Future[None]:
        """Clients are gone. Their information is told also when Redis has lost the entry; None = not then."""
        return self._change("leave", channel, _pairs(entries), tell)

    def renew(self, channel: str, clients: Iterable[str], *, tell: bool) -> asyncio.Future[list[str]]:
        """Begin the leases of clients anew; those that Redis does not have. Also ends the leases that have run out."""
        sent = self._change("renew", channel, [client.encode() for client in clients], tell)
        return converted(sent, lambda missing: [client.decode() for client in missing])

    def tell(self, channel: str, change: PresenceChange) -> asyncio.Future[int]:
        """Publish a change without making one."""
        return self._commands.publish(publish_channel(self._prefix, channel), encode_presence_change(change))

    def stats(self, channel: str) -> asyncio.Future[tuple[int, int]]:
        """The number of clients, and of different users."""
        keys = (presence_key(self._prefix, channel), presence_users_key(self._prefix, channel))
        return converted(self._stats.submit(self._commands, keys, ()), tuple)

    async def read(self, channel: str) -> AsyncGenerator[list[tuple[str, ClientInfo]], None]:
        """Every client, at most CHUNK at a time. Who comes or goes meanwhile may be there, or twice, or not.

        Waits for futures only. Raises BrokerError.
        """
        cursor = b"0"
        while True:
            keys = (presence_key(self._prefix, channel),)
            cursor, flat = await self._read.submit(self._commands, keys, (cursor, CHUNK))
            for start in range(0, len(flat), 2 * CHUNK):
                some = iter(flat[start : start + 2 * CHUNK])
                yield [(client.decode(), _decoder.decode(info)) for client, info in zip(some, some, strict=True)]
            if cursor == b"0":
                return

    def _change(self, operation: Operation, channel: str, args: list[bytes], tell: bool) -> asyncio.Future[Any]:
        prefix = self._prefix
        keys = (presence_key(prefix, channel), presence_at_key(prefix, channel), presence_users_key(prefix, channel))
        told = publish_channel(prefix, channel) if tell else b""
        size = sum(map(len, args))
        return self._script.submit(self._commands, keys, (operation, self._lease_ms, told, *args), size=size)


def _pairs(entries: Mapping[str, ClientInfo] | Mapping[str, ClientInfo | None]) -> list[bytes]:
    """Client, information, client, information …"""
    return list(chain.from_iterable((client.encode(), _encoded(info)) for client, info in entries.items()))


def _encoded(info: ClientInfo | None) -> bytes:
    return _encoder.encode(info) if info is not None else b""
