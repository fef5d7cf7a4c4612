"""The options that both publishers take, and reading them from the gateway's own configuration, so that they agree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypedDict

from pydantic import ValidationError

from gateway.config import STREAM_NAMESPACE, Config, Namespace, Redis, load_config
from gateway.errors import ConfigError
from gateway.publisher.messages import History
from gateway.storage.folder import embedded_socket
from protocol.publish_rules import HistoryRule, PublishRules

MAX_BYTES: Final = 1_048_576
"""As the gateway's limits.publication_bytes."""
CHANNEL_LENGTH: Final = 255
"""As the gateway's limits.channel_length."""
RETRY_FOR_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 3.0


class Options(TypedDict):
    """What a publisher must have in common with the gateway."""

    url: str
    prefix: str
    namespaces: Mapping[str, History | None]
    max_bytes: int
    channel_length: int
    connect_timeout_s: float


def options_of_gateway(path: str | os.PathLike[str] | None) -> Options:
    """From the gateway's TOML file at `path` (None = none) and its variables `GATEWAY_…` in this environment.

    Raises ConfigError.
    """
    config = config_of_gateway(path)
    return Options(
        url=config.redis.url,
        prefix=config.redis.prefix,
        namespaces=histories(config),
        max_bytes=config.limits.publication_bytes,
        channel_length=config.limits.channel_length,
        connect_timeout_s=config.redis.connect_timeout_s,
    )


def config_of_gateway(path: str | os.PathLike[str] | None) -> Config:
    """The gateway's TOML file at `path` (None = none) and its variables `GATEWAY_…` in this environment.

    Without `redis.url`: that of the embedded Redis of this user's gateway on this machine. Raises ConfigError.
    """
    file = Path(path) if path is not None else None
    config = load_config(file, environ=os.environ, flags={}, to_serve=False)
    if config.redis.url:
        return config
    embedded = config.redis.model_copy(update={"url": f"unix://{embedded_socket(config.server.port)}"})
    return config.model_copy(update={"redis": embedded})


def histories(config: Config) -> Mapping[str, History | None]:
    """The history of every namespace that one may publish to."""
    return {
        name: _history(namespace)
        for name, namespace in config.namespaces.items()
        if name != STREAM_NAMESPACE or not config.streams.enabled  # only the writers of streams publish there
    }


def publish_rules(config: Config) -> PublishRules:
    """What a gateway with this configuration tells publishers."""
    return PublishRules(
        namespaces={
            name: None if kept is None else HistoryRule(kept.size, kept.ttl_s)
            for name, kept in histories(config).items()
        },
        publication_bytes=config.limits.publication_bytes,
        channel_length=config.limits.channel_length,
    )


def _history(namespace: Namespace) -> History | None:
    if not namespace.history_size or not namespace.history_ttl_s:
        return None
    return History(namespace.history_size, namespace.history_ttl_s)


def redis_settings(url: str, prefix: str, connect_timeout_s: float) -> Redis:
    """Checked settings of the connection. Raises ConfigError."""
    if not url:
        raise ConfigError(["url: is missing"])
    try:
        return Redis(url=url, prefix=prefix, connect_timeout_s=connect_timeout_s)
    except ValidationError as error:
        # Not the message of pydantic: that shows the URL, with its password.
        raise ConfigError([f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]) from None
