"""What backends and workers write to Redis: names of channels and keys, and the envelope of a publication.

A payload on `<prefix>:pub:<channel>` is either a bare JSON document, or an envelope:

    @1 <offset> <epoch> <JSON metadata or ->\\n<data>

JSON never starts with `@`, so the two cannot be confused. Offset 0 and epoch `-` mean "no position": the publication is
not in a log (that is how the gateway says who published, for a client's publication on a channel without history).
Metadata is a JSON object with any of `info` (ClientInfo) and `tags` (string → string). Binary data is the JSON object
`{"$binary":"<base64>"}` (`protocol.encodings.binary`).
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec
from msgspec import Raw

from protocol.encodings.json import json_line
from protocol.errors import DecodeError, EnvelopeError
from protocol.position import Position
from protocol.replies import ClientInfo, Publication

VERSION: Final = b"@1 "
STREAM_PARTS: Final = 16
"""Groups of token streams in a Redis Cluster: a stream with the key K is in group crc32(K) mod 16."""
_STREAM: Final = "stream:"


class ClusterPrefix(str):
    """The prefix of names in a Redis Cluster: a name carries its channel in braces (`gw:log:{news}`), so that all
    keys of one channel are in one slot. Publications are told with SPUBLISH there, to the slot's own server."""

    __slots__ = ()


def hash_tag(name: str) -> str:
    """The part of a key's name that decides about its slot (redis.io: Redis cluster specification, hash tags)."""
    start = name.find("{")
    end = name.find("}", start + 1) if start >= 0 else -1
    return name[start + 1 : end] if end > start + 1 else name


def is_sharded(channel: bytes) -> bool:
    """Whether a Redis channel is one of sharded pub/sub: those with braces are, and names of the gateway have braces in
    a cluster only."""
    return b"{" in channel


def _tagged(prefix: str, channel: str) -> str:
    """A channel's part of a name. Token streams share slots in STREAM_PARTS groups: they have keys in common."""
    if not isinstance(prefix, ClusterPrefix):
        return channel
    if channel.startswith(_STREAM):
        return f"{_stream_part(channel.removeprefix(_STREAM))}:{channel}"
    return f"{{{channel}}}"


def _together(prefix: str, word: str) -> str:
    """What keys of one script have in common."""
    return f"{{{word}}}" if isinstance(prefix, ClusterPrefix) else word


def _beside(prefix: str, stream: str) -> str:
    """Puts a key into the slot of a stream that a person has named."""
    return f":{{{hash_tag(stream)}}}" if isinstance(prefix, ClusterPrefix) else ""


def _part_of(prefix: str, key: str) -> str:
    return f"{_stream_part(key)}:" if isinstance(prefix, ClusterPrefix) else ""


def _stream_part(key: str) -> str:
    return f"{{streams-{zlib.crc32(key.encode()) % STREAM_PARTS}}}"


class Metadata(msgspec.Struct, omit_defaults=True):
    """What an envelope says about its data."""

    info: ClientInfo | None = None
    tags: dict[str, str] = {}
    skip_history: bool = False
    """Its publisher has chosen not to keep it, in a channel with history."""


class Received(msgspec.Struct, frozen=True):
    """A publication as it came from Redis. `position` is None for one that is in no log."""

    publication: Publication
    position: Position | None = None
    skip_history: bool = False
    """Its publisher has chosen not to keep it."""


class PresenceChange(msgspec.Struct, frozen=True):
    """Somebody has joined a channel (or left it), as it came from Redis."""

    joined: bool
    info: ClientInfo


_metadata_decoder: Final = msgspec.json.Decoder(Metadata)
_info_decoder: Final = msgspec.json.Decoder(ClientInfo)
_encoder: Final = msgspec.json.Encoder()


def publish_channel(prefix: str, channel: str) -> bytes:
    """The Redis channel that carries the publications of `channel`."""
    return f"{prefix}:pub:{_tagged(prefix, channel)}".encode()


def log_key(prefix: str, channel: str) -> bytes:
    """Stream: the log. Entry `<offset>-0` with the fields `m` (metadata, or `-`) and `d` (data)."""
    return f"{prefix}:log:{_tagged(prefix, channel)}".encode()


def meta_key(prefix: str, channel: str) -> bytes:
    """Hash: `epoch` and `offset` of the newest publication."""
    return f"{prefix}:meta:{_tagged(prefix, channel)}".encode()


def done_key(prefix: str, key: str, channel: str = "") -> bytes:
    """String: position of the publication that was made with an idempotency key, which counts for `channel` ("" = for
    all; not in a cluster, where it must be in the channel's slot)."""
    return f"{prefix}:done:{f'{_tagged(prefix, channel)}:' if channel else ''}{key}".encode()


def stream_key(prefix: str, key: str) -> bytes:
    """Hash: the state of a token stream; the fields are in `gateway/broker/lua/stream.lua`."""
    return f"{prefix}:stream:{_part_of(prefix, key)}{key}".encode()


def stream_parts_key(prefix: str, key: str) -> bytes:
    """List: the text of a token stream, one part for each delta; the first is record 2."""
    return f"{prefix}:stream-parts:{_part_of(prefix, key)}{key}".encode()


def stream_text_key(prefix: str, key: str) -> bytes:
    """String: the whole text of a token stream that has ended (0x00 and UTF-8, or 0x01 and zstandard)."""
    return f"{prefix}:stream-text:{_part_of(prefix, key)}{key}".encode()


def streams_key(prefix: str, key: str) -> bytes:
    """Sorted set: key of a token stream → when somebody has to look after it (ms), by Redis' clock; the set of `key`.

    Also the name of a Redis channel: generations that were ended by somebody else than their producer.
    """
    part = f":{_stream_part(key)}" if isinstance(prefix, ClusterPrefix) else ""
    return f"{prefix}:streams{part}".encode()


def streams_keys(prefix: str) -> list[bytes]:
    """All of these: one, in a cluster one for each group."""
    if not isinstance(prefix, ClusterPrefix):
        return [f"{prefix}:streams".encode()]
    return [f"{prefix}:streams:{{streams-{part}}}".encode() for part in range(STREAM_PARTS)]


def cache_key(prefix: str, digest: str) -> bytes:
    """String: one value of the response cache; `gateway/cache/values.py` has its form."""
    return f"{prefix}:cache:{digest}".encode()


def cache_stats_key(prefix: str) -> bytes:
    """Hash: `<kind> <counter>` of the response cache → number, of all backends since the hash was begun."""
    return f"{prefix}:cache-stats".encode()


def ingest_key(prefix: str) -> bytes:
    """Stream: publications of backends, relayed by one node at a time. Fields `channel`, `data` (JSON) and `key`."""
    return f"{prefix}:ingest".encode()


def ingest_dead_key(prefix: str) -> bytes:
    """Stream: entries that were given up; their fields, and `id` and `reason`."""
    return f"{prefix}:ingest-dead{_beside(prefix, f'{prefix}:ingest')}".encode()


def ingest_lease_key(prefix: str) -> bytes:
    """String: the consumer that relays."""
    return f"{prefix}:ingest-relay".encode()


def user_places_key(prefix: str, user: str) -> bytes:
    """Sorted set: `<worker> <client id>` of each connection of a user → when it came (ms)."""
    return f"{prefix}:user:{user}".encode()


def user_workers_key(prefix: str) -> bytes:
    """Sorted set: edge worker → end of its lease (ms), by Redis' clock. For connections of users."""
    return f"{prefix}:user-workers".encode()


def encode_metadata(metadata: Metadata) -> bytes:
    """One line: a JSON object, or `-` for none."""
    meta = _encoder.encode(metadata)
    return b"-" if meta == b"{}" else meta


def presence_key(prefix: str, channel: str) -> bytes:
    """Hash: client id → ClientInfo as JSON."""
    return f"{prefix}:presence:{_tagged(prefix, channel)}".encode()


def presence_at_key(prefix: str, channel: str) -> bytes:
    """Sorted set: client id → end of its lease in ms, by Redis' clock."""
    return f"{prefix}:presence-at:{_tagged(prefix, channel)}".encode()


def presence_users_key(prefix: str, channel: str) -> bytes:
    """Hash: user id → number of its clients."""
    return f"{prefix}:presence-users:{_tagged(prefix, channel)}".encode()


def control_channel(prefix: str) -> bytes:
    """The Redis channel that carries commands for every node."""
    return f"{prefix}:control".encode()


def rules_key(prefix: str) -> bytes:
    """Hash: the gateway's rules for publications, and their version (`protocol.publish_rules`)."""
    return f"{prefix}:rules".encode()


def canary_channel(prefix: str, worker: str) -> bytes:
    """The Redis channel on which a worker hears its own canary."""
    return f"{prefix}:canary:{_tagged(prefix, worker)}".encode()


def revoked_key(prefix: str) -> bytes:
    """Hash: what is revoked → the `Revoked` message as JSON."""
    return f"{prefix}:{_together(prefix, 'revoked')}".encode()


def revoked_until_key(prefix: str) -> bytes:
    """Sorted set: what is revoked → when it can be forgotten, seconds since 1970 UTC."""
    return f"{prefix}:{_together(prefix, 'revoked')}-until".encode()


def nodes_key(prefix: str) -> bytes:
    """Hash: id of a worker → what it says about itself, as JSON."""
    return f"{prefix}:nodes".encode()


def survey_key(prefix: str, survey: str) -> bytes:
    """List: answers to one survey."""
    return f"{prefix}:survey:{survey}".encode()


def workers_key(prefix: str, stream: str) -> bytes:
    """Sorted set: worker → end of its lease in ms, by Redis' clock. For lifecycle events in `stream`."""
    return f"{prefix}:workers{_beside(prefix, stream)}".encode()


def clients_key(prefix: str, stream: str, worker: str) -> bytes:
    """Hash: id of a client of the worker → its user. For lifecycle events in `stream`."""
    return f"{prefix}:clients{_beside(prefix, stream)}:{worker}".encode()


def encode_envelope(data: bytes, metadata: Metadata, position: Position | None = None) -> bytes:
    """The envelope of one publication."""
    meta = encode_metadata(metadata)
    if position is None:
        return b"@1 0 - %b\n%b" % (meta, data)
    return b"@1 %d %b %b\n%b" % (position.offset, position.epoch.encode(), meta, data)


def encode_presence_change(change: PresenceChange) -> bytes:
    """What is published when somebody joins or leaves."""
    return (b"@join " if change.joined else b"@leave ") + _encoder.encode(change.info)


def decode_payload(payload: bytes) -> Received | PresenceChange:
    """What one Redis payload says. Raises EnvelopeError when it is neither valid JSON nor a known envelope."""
    try:
        if not payload.startswith(b"@"):
            return Received(Publication(data=Raw(json_line(payload))))
        if payload.startswith((b"@join ", b"@leave ")):
            kind, _, info = payload.partition(b" ")
            return PresenceChange(kind == b"@join", _info_decoder.decode(json_line(info)))
        if not payload.startswith(VERSION):
            raise EnvelopeError("envelope of an unknown version")
        head, newline, data = payload.partition(b"\n")
        parts = head.split(b" ", 3)
        if not newline or len(parts) != 4:
            raise EnvelopeError("envelope without offset, epoch, metadata or data")
        offset = int(parts[1]) if parts[1].isdigit() and len(parts[1]) <= 19 else -1
        epoch = parts[2].decode()
        if offset < 0 or not epoch or (offset > 0 and epoch == "-"):
            raise EnvelopeError("envelope with an invalid position")
        # Decoded first, because raw values are not looked into: invalid UTF-8 in one would reach the clients.
        meta = Metadata() if parts[3] == b"-" else _metadata_decoder.decode(parts[3].decode())
        publication = Publication(data=Raw(json_line(data)), info=meta.info, tags=meta.tags, offset=offset)
    except (DecodeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(str(error)) from error
    return Received(publication, Position(offset=offset, epoch=epoch) if offset else None, meta.skip_history)
