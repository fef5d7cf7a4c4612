"""Hooks into the backend, and events for it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gateway.config.base import Section, is_loopback

PROXIED: Final = ("connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc")
"""Events with a URL."""
_TOKEN_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_OURS: Final = frozenset(
    (
        *("host", "connection", "upgrade", "content-length", "content-type", "content-encoding", "transfer-encoding"),
        *("te", "trailer", "expect", "accept-encoding", "keep-alive", "proxy-connection"),
    )
)
"""Headers that belong to one connection, or that the calls set themselves."""
_PRIVATE_SUFFIXES: Final = (".internal", ".local", ".localhost", ".svc", ".test", ".lan")


class Backend(Section):
    """Hooks into the backend: Python handlers, HTTP endpoints, a stream of events."""

    handlers: Annotated[str, Field(pattern=r"^(|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")] = ""
    """Class with async methods `on_connect`, `on_subscribe` … (`package.module:Class`); one object per worker."""
    connect_url: str = ""
    """Asked when a client connects without a token."""
    refresh_url: str = ""
    """Asked before a connection expires that `connect` let in."""
    subscribe_url: str = ""
    """Asked about subscriptions in namespaces with `subscribe_by = "backend"`."""
    sub_refresh_url: str = ""
    """Asked before a subscription expires that `subscribe` allowed."""
    publish_url: str = ""
    """Asked about publications in namespaces with `publish_by = "backend"`."""
    rpc_url: str = ""
    """Answers the client's `rpc`."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Time for an answer, a second attempt included; past it, error 100 (temporary)."""
    headers: tuple[str, ...] = ()
    """Headers of the client's handshake that go along, by name (`cookie`). Others are not kept."""
    static_headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Headers of every call, such as the gateway's own `Authorization`."""
    send_meta: bool = False
    """Send `meta` of the connection along over HTTP."""
    calls_at_once: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Calls under way per worker; above it, error 100 at once."""
    answer_bytes: Annotated[int, Field(ge=1024, le=67_108_864)] = 1_048_576
    """Largest answer over HTTP; a larger one is a failure."""
    breaker_failures: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Failures in a row of one URL (no connection, no answer in time, status 5xx) after which it is left alone."""
    breaker_open_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Time until it is tried again, with one call."""
    events_stream: Annotated[str, Field(pattern=r"^[^\s{}]{0,200}$")] = ""
    """Redis Stream for connected, disconnected, subscribed, unsubscribed (`gw:events`); empty = none."""
    events_kept: Annotated[int, Field(ge=1000, le=100_000_000)] = 1_000_000
    """Events that the stream keeps, about."""
    events_lease_s: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """Time after which a silent worker counts as dead and its clients as disconnected."""

    @field_validator("connect_url", "refresh_url", "subscribe_url", "sub_refresh_url", "publish_url", "rpc_url")
    @classmethod
    def _url(cls, url: str) -> str:
        if url:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError("must be an https:// or http:// URL")
            if "@" in parts.netloc:
                raise ValueError("must not contain a user name or password: use static_headers")
        return url

    @field_validator("headers")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_header_name(name) for name in names)

    @field_validator("static_headers")
    @classmethod
    def _static(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            _header_name(name)
            if not value.isascii() or not value.isprintable():
                raise ValueError(f'the value of "{name}" is not printable ASCII')
        return headers

    @property
    def urls(self) -> dict[str, str]:
        """Event → URL that is asked about it."""
        return {event: url for event in PROXIED if (url := getattr(self, f"{event}_url"))}

    @property
    def may_hook(self) -> frozenset[str]:
        """Events that somebody may answer; which of them the handlers do is known when they are imported."""
        return frozenset(PROXIED) if self.handlers else frozenset(self.urls)

    @property
    def open_urls(self) -> list[str]:
        """Keys of URLs that send what clients say, unencrypted, to what does not look like a private host."""
        return [
            f"{event}_url" for event, url in self.urls.items() if url.startswith("http://") and not _is_private(url)
        ]


def _header_name(name: str) -> str:
    lower = name.lower()
    if not lower or not set(lower) <= _TOKEN_CHARACTERS:
        raise ValueError(f'"{name}" is no name of a header')
    if lower in _OURS or lower.startswith("sec-websocket-"):
        raise ValueError(f'"{name}" belongs to one connection and cannot be passed on')
    return lower


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return is_loopback(host) or "." not in host or host.endswith(_PRIVATE_SUFFIXES) or ".svc." in host
