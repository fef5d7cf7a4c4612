"""The `[control]` section: the private port, and who may call its HTTP API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config.base import TABLE_NAME, Port, Secret, Section

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
    "channels",
    "info",
    "rpc",
    "revoke_token",
    "invalidate_user_tokens",
]
"""Methods of the HTTP API that a key can be limited to. `batch` needs no permission of its own."""

MIN_API_KEY = 16
"""Characters of an API key, at least."""


class ApiKey(Section):
    """A key for the HTTP API that may do only some things."""

    key: Secret = Field("", validate_default=True)
    """What the backend sends as `X-API-Key`."""
    methods: tuple[ApiMethod, ...] = ()
    """Methods that may be called; empty = all."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose channels may be named, `default` for channels without one; empty = all. A key with namespaces
    may call no method that does not name channels."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: str) -> str:
        if len(key) < MIN_API_KEY:
            raise ValueError(f"an API key needs at least {MIN_API_KEY} characters")
        return key


class Control(Section):
    """The private port: HTTP API for backends, metrics, demo page."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback exposes the metrics to that network."""
    port: Port = 9000
    """Port to listen on; 0 = any free one."""
    api_keys: Annotated[tuple[str, ...], Field(repr=False)] = ()
    """Keys that backends send as `X-API-Key`, with access to everything. Without these and `keys` the API refuses
    every call."""
    demo: bool = False
    """Serve `/demo`, with tokens for whoever opens the page."""
    keys: dict[Annotated[str, Field(pattern=TABLE_NAME)], ApiKey] = Field(default_factory=dict)
    """Keys that may do only some things, by a name for error messages."""

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < MIN_API_KEY for key in keys):
            raise ValueError(f"an API key needs at least {MIN_API_KEY} characters")
        return keys

    @model_validator(mode="after")
    def _one_meaning_each(self) -> Control:
        owners = dict.fromkeys(self.api_keys, "api_keys")
        for name, limited in self.keys.items():
            if (owner := owners.setdefault(limited.key, f"keys.{name}")) != f"keys.{name}":
                raise ValueError(f"keys.{name} has the same key as {owner}")
        return self
