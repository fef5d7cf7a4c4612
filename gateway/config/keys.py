"""Keys of the HTTP API that may do some things only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from gateway.config.base import Section, long_enough

ApiMethod = Literal[
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "revoke_token",
    "invalidate_user_tokens",
    "info",
    "channels",
    "rpc",
    "batch",
]
"""Methods of the HTTP API."""


class ApiKey(Section):
    """A key of the HTTP API that may do some things only."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What it is called in messages."""
    key: Annotated[str, Field(repr=False)]
    """What the backend sends as `X-API-Key`."""
    methods: tuple[ApiMethod, ...] = ()
    """Methods that it may call; empty = all. `batch` is checked command by command."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose channels it may name (`default` for channels without one); empty = all, and what concerns no
    channel."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: str) -> str:
        return long_enough(key)
