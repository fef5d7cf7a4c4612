"""Where a Redis server is and how to log in to it: what the raw subscriber connection needs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import msgspec


class Server(Protocol):
    """What the subscriber connection needs to know of where it connects to: an `Endpoint`, or one that is found."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def db(self) -> int: ...
    @property
    def must_be_master(self) -> bool:
        """Whether to ask the server for its role: who named it may know less than the server does."""
        ...

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None: ...


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis server is and how to log in to it, from its URL."""

    host: str = ""
    port: int = 6379
    path: str = ""
    """Unix socket; "" = TCP."""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    must_be_master: bool = False
    tls_options: dict[str, Any] = {}

    def __str__(self) -> str:
        """For logs: never with credentials."""
        return f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Endpoint({self})"

    async def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connect, with a protocol made by `factory`. Raises OSError (ssl.SSLError is one)."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(factory, self.path)
        else:
            await loop.create_connection(factory, self.host, self.port, ssl=self._tls_context())

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        options = self.tls_options
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if options.get("ssl_certfile"):
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        if options.get("ssl_cert_reqs") in ("none", ssl.CERT_NONE):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
