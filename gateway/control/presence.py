"""`presence` and `presence_stats`: who is in a channel, as Redis knows it. The list is read and sent in pages."""

from __future__ import annotations

import msgspec

from gateway.broker import PresenceStore
from gateway.config import Config
from gateway.control.answers import ApiError
from gateway.control.fields import ChannelField, Rooms, encode
from gateway.control.methods import Method
from gateway.control.streams import Pieces
from protocol.codes import NOT_AVAILABLE
from protocol.replies import PresenceResult, PresenceStatsResult


class PresenceRequest(msgspec.Struct, kw_only=True):
    """A channel."""

    channel: ChannelField = ""


class PresenceStatsRequest(msgspec.Struct, kw_only=True):
    """A channel."""

    channel: ChannelField = ""


class Presences:
    """Reads presence."""

    def __init__(self, config: Config, store: PresenceStore) -> None:
        self._rooms = Rooms.of(config)
        self._store = store

    async def presence(self, request: PresenceRequest) -> Pieces:
        """Raises ApiError: 102, 107, 108 where presence is off."""
        self._check(request.channel)
        return self._pieces(request.channel)

    async def stats(self, request: PresenceStatsRequest) -> PresenceStatsResult:
        self._check(request.channel)
        clients, users = await self._store.stats(request.channel)
        return PresenceStatsResult(num_clients=clients, num_users=users)

    def _check(self, channel: str) -> None:
        if not self._rooms.rules(channel).presence:
            raise ApiError(NOT_AVAILABLE, "channel: presence is off in its namespace")

    async def _pieces(self, channel: str) -> Pieces:
        start = b'{"presence":{'
        async for entries in self._store.read(channel):
            if not entries:
                continue
            yield start + encode(dict(entries))[1:-1]
            start = b","
        yield (start if start != b"," else b"") + b"}}"


def presence_methods(
    config: Config, store: PresenceStore
) -> tuple[Method[PresenceRequest], Method[PresenceStatsRequest]]:
    """`presence` and `presence_stats`."""
    presences = Presences(config, store)
    length = config.limits.channel_length
    return (
        Method(
            "presence",
            "Who is in a channel",
            PresenceRequest,
            PresenceResult,
            presences.presence,
            example='{"channel": "chat:lobby"}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
            streams=True,
        ),
        Method(
            "presence_stats",
            "How many clients and users are in a channel",
            PresenceStatsRequest,
            PresenceStatsResult,
            presences.stats,
            example='{"channel": "chat:lobby"}',
            channels=lambda request: (request.channel,),
            max_channel_length=length,
        ),
    )
