"""What a caller gives to a publisher, checked and encoded before anything is sent. No input or output here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from gateway.errors import PublishInvalid
from protocol.channel import parse_channel
from protocol.encodings.binary import as_document
from protocol.encodings.json import json_line
from protocol.errors import ChannelError, DecodeError
from protocol.redis_contract import Metadata, encode_envelope

MAX_KEY_LENGTH: Final = 255
MAX_VERSION: Final = 2**53 - 1
"""Redis scripts count in floating-point numbers, which are exact up to here."""
ENVELOPE_BYTES: Final = 128
"""Room for what stands before the metadata and data of an envelope: version, offset and epoch."""


class RawJSON(bytes):
    """A JSON document that is encoded already. Its whitespace, number formats and order of keys are kept."""

    __slots__ = ()


class Binary(bytes):
    """Bytes for clients with a binary encoding. JSON clients get `{"$binary": "<base64>"}`."""

    __slots__ = ()


class History(msgspec.Struct, frozen=True):
    """A channel's log: publications kept, and seconds for which they are. As in the gateway's namespace."""

    size: int
    ttl_s: float

    def __post_init__(self) -> None:
        if self.size < 1:
            raise PublishInvalid("history.size", f"must be at least 1, is {self.size}")
        if not self.ttl_s > 0:
            raise PublishInvalid("history.ttl_s", f"must be above 0, is {self.ttl_s}")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One publication. Raises nothing itself; `Rules.prepare` looks at it."""

    channel: str
    data: Any
    """Any JSON-serialisable value, also dataclasses, `datetime`, msgspec and pydantic models; `RawJSON`, `Binary`."""
    tags: Mapping[str, str] | None = None
    """Small texts beside the data; subscribers see them."""
    key: str | None = None
    """Idempotency key: a channel takes one publication with it, later ones answer with the first one's position.
    Remembered for minutes. None = one that nobody else uses. Needs history."""
    version: int = 0
    """Above 0: only taken if above the version that the channel has within `version_epoch`. Needs history."""
    version_epoch: str = ""
    history: History | UnsetType | None = UNSET
    """Unset = as the channel's namespace says; None = bypass the log."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A publication that is ready to be sent. With history it has a key, and may be sent again."""

    channel: str
    payload: bytes
    """With history the data; without, what goes to PUBLISH."""
    metadata: Metadata
    history: History | None
    key: str
    version: int
    version_epoch: str


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What may be published, and which channels have a log."""

    namespaces: Mapping[str, History | None]
    """History by namespace, `default` for channels without one."""
    max_bytes: int
    """Largest payload that the gateway takes (limits.publication_bytes)."""
    channel_length: int

    def prepare(self, message: Message) -> Prepared:
        """`message`, encoded. Raises PublishInvalid with the name of the field."""
        history = self._history_of_channel(message.channel)
        skipped = message.history is None and history is not None
        if not isinstance(message.history, UnsetType):
            history = message.history
        metadata = Metadata(tags=_tags(message.tags), skip_history=skipped)
        data = encode_data(message.data)
        if history is None:
            for field, given in (
                ("key", message.key is not None),
                ("version", message.version),
                ("version_epoch", message.version_epoch),
            ):
                if given:  # Better refused than ignored: the caller relies on it.
                    raise PublishInvalid(field, "needs a channel with history")
            payload = encode_envelope(data, metadata) if metadata.tags or skipped else data
            size = len(payload)
        else:
            payload = data
            size = len(data) + ENVELOPE_BYTES + len(msgspec.json.encode(metadata))
        if size > self.max_bytes:
            raise PublishInvalid("data", f"makes {size} bytes, the gateway takes {self.max_bytes}")
        return Prepared(
            channel=message.channel,
            payload=payload,
            metadata=metadata,
            history=history,
            key=_key(message) if history is not None else "",
            version=_version(message.version),
            version_epoch=_version_epoch(message),
        )

    def _history_of_channel(self, channel: str) -> History | None:
        if not isinstance(channel, str):
            raise PublishInvalid("channel", f"must be a string, is {type(channel).__name__}")
        try:
            namespace = parse_channel(channel, self.channel_length).namespace
        except ChannelError as error:
            raise PublishInvalid("channel", str(error)) from error
        if namespace and namespace not in self.namespaces:
            raise PublishInvalid("channel", f'no namespace "{namespace}" is configured')
        return self.namespaces.get(namespace or "default")


def encode_data(data: object) -> bytes:
    """`data` as JSON on one line. Raises PublishInvalid."""
    if isinstance(data, RawJSON):
        try:
            return json_line(bytes(data))
        except DecodeError as error:
            raise PublishInvalid("data", str(error)) from error
    if isinstance(data, Binary):
        return as_document(bytes(data))
    if isinstance(data, bytes | bytearray | memoryview):
        raise PublishInvalid("data", "is bytes: wrap an encoded JSON document in RawJSON, anything else in Binary")
    try:
        return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError) as error:
        problem = str(error.__cause__ or error)
        raise PublishInvalid("data", f"cannot be JSON: {problem}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if hasattr(value, "model_dump"):  # pydantic, without importing it
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise PublishInvalid("tags", f"must be a mapping, is {type(tags).__name__}")
    for name, text in tags.items():
        if not _is_text(name) or not _is_text(text):
            raise PublishInvalid("tags", f"must be text to text, has {name!r}: {text!r}")
    return dict(tags)


def _key(message: Message) -> str:
    """The caller's key, or one of its own, so that a retry does not double the publication."""
    key = message.key
    if key is None:
        return os.urandom(16).hex()
    if not _is_text(key) or not key or len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise PublishInvalid("key", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
    return key


def _version(version: int) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise PublishInvalid("version", f"must be a whole number from 0 to {MAX_VERSION}, is {version!r}")
    return version


def _version_epoch(message: Message) -> str:
    epoch = message.version_epoch
    if not _is_text(epoch) or len(epoch) > MAX_KEY_LENGTH:
        raise PublishInvalid("version_epoch", f"must be text of at most {MAX_KEY_LENGTH} characters")
    if epoch and not message.version:
        raise PublishInvalid("version_epoch", "needs a version")
    return epoch


def _is_text(value: object) -> bool:
    """Whether it is a string that has a UTF-8 form."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
