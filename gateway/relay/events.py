"""What a backend inserts: one row for each publication, in the transaction that it is about.

`outbox_event` makes the INSERT for SQLAlchemy, whether its sessions are synchronous or asynchronous. Backends without
SQLAlchemy insert the same columns themselves: channel and payload, and whatever else they want to choose.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Dialect, Insert, MetaData, Table, Text, insert
from sqlalchemy.types import DateTime, Float, TypeDecorator, TypeEngine

from gateway.errors import PublishInvalid
from gateway.publisher.messages import MAX_KEY_LENGTH, encode_data
from protocol.channel import parse_channel
from protocol.errors import ChannelError

TABLE: Final = "gateway_outbox"
MAX_CHANNEL_LENGTH: Final = 1024
"""What no configuration of the gateway exceeds; whether the channel is one of its own is found by the relay."""


class Moment(TypeDecorator[datetime]):
    """A time: `timestamptz` in PostgreSQL, seconds since 1970 in SQLite."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Float())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value.timestamp() if value is not None and dialect.name == "sqlite" else value


outbox_table: Final = Table(
    TABLE,
    MetaData(),
    Column("event_id", Text),
    Column("channel", Text),
    Column("payload", Text),
    Column("key", Text),
    Column("available", Moment),
)
"""The columns that backends write. The table itself is made by `nexus-gateway outbox init`."""


def outbox_event(
    channel: str,
    data: Any,
    *,
    key: str | None = None,
    event_id: str | None = None,
    available: datetime | None = None,
) -> Insert:
    """The INSERT of one publication, for `session.execute`. It leaves when the transaction is committed.

    `data`: as `gateway.publisher` takes it. `key`: events with the same key are published in the order of their
    inserts; None = those of the same channel are. `event_id`: idempotency key, 1 to 255 printable characters; a second
    row with it is refused by the database; None = a random one. `available`: not before then (with a time zone).

    Raises PublishInvalid (a ValueError).
    """
    try:
        parse_channel(channel, MAX_CHANNEL_LENGTH)
    except ChannelError as error:
        raise PublishInvalid("channel", str(error)) from error
    if event_id is None:
        event_id = os.urandom(16).hex()
    elif not 0 < len(event_id) <= MAX_KEY_LENGTH or not event_id.isprintable():
        raise PublishInvalid("event_id", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
    values: dict[str, Any] = {"event_id": event_id, "channel": channel, "payload": encode_data(data).decode()}
    if key is not None:
        values["key"] = key
    if available is not None:
        if available.tzinfo is None:
            raise PublishInvalid("available", "needs a time zone")
        values["available"] = available
    return insert(outbox_table).inline().values(values)
