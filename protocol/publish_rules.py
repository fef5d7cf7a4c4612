"""The gateway's rules for publications, as it keeps them in Redis: publishers read there which channels have a log.

One hash, `<prefix>:rules`. Its field `rules` is this document as JSON, its field `version` a number that grows with
every change. A gateway writes both in one step when it starts and when it reloads its configuration.
"""

from __future__ import annotations

from typing import Final

import msgspec

from protocol.errors import EnvelopeError

RULES_FIELD: Final = "rules"
VERSION_FIELD: Final = "version"


class HistoryRule(msgspec.Struct, frozen=True):
    """The log of each channel in a namespace."""

    size: int
    """Publications kept, at least 1."""
    ttl_s: float
    """Seconds for which they are kept, above 0."""


class PublishRules(msgspec.Struct, frozen=True, kw_only=True):
    """What may be published, and where it goes."""

    namespaces: dict[str, HistoryRule | None]
    """Every namespace that takes publications; `default` is for channels without one, null for no history."""
    publication_bytes: int
    """Largest publication that workers deliver: envelope, metadata and data."""
    channel_length: int
    """Characters in the name of a channel."""


_decoder: Final = msgspec.json.Decoder(PublishRules)


def encode_rules(rules: PublishRules) -> bytes:
    """The document: equal rules give equal bytes."""
    return msgspec.json.encode(rules, order="deterministic")


def decode_rules(document: bytes) -> PublishRules:
    """What a gateway has written. Raises EnvelopeError. Fields of a newer version are ignored."""
    try:
        return _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(f"not the rules of a gateway: {error}") from error
