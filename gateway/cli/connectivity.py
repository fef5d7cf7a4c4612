"""`config check --connect`: whether everything that the configuration names can be reached, from here and now.

Leaves nothing behind: a key in Redis is gone after a second, no table is made, no hook is called. A URL of a hook
counts as reachable if it gives any HTTP answer to an OPTIONS request.
"""
# ruff: noqa: PLC0415 - what one check needs is imported by that check

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.errors import BrokerError, GatewayError, SqlError

if TYPE_CHECKING:
    from gateway.config import Config

TIMEOUT_S: Final = 5.0
"""Time for one HTTP answer."""


class Finding(NamedTuple):
    """One thing that was tried."""

    what: str
    """The setting that names it, such as `[redis] url`."""
    problem: str
    """Why it cannot be used; "" if it can."""
    detail: str = ""
    """What was found."""


async def probe(config: Config) -> AsyncIterator[Finding]:
    """Try everything that `config` names, one after the other."""
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = []
    if config.redis.url:
        checks.append(("[redis] url", lambda: _redis(config)))
    else:
        checks.append(("[redis] url is empty", _embedded))
    if config.auth.jwks_url:
        checks.append(("[auth] jwks_url", lambda: _key_set(config)))
    if config.outbox.url:
        checks.append(("[outbox] url", lambda: _outbox(config)))
    if config.backend.handlers:
        checks.append(("[backend] handlers", lambda: _handlers(config)))
    for event, url in config.backend.urls.items():
        checks.append((f"[backend] {event}_url", lambda url=url: _url(url)))  # type: ignore[misc]
    for what, check in checks:
        try:
            yield Finding(what, "", await check())
        except (GatewayError, OSError, ValueError) as error:
            yield Finding(what, str(error).removeprefix(f"{what}: ") or type(error).__name__)


async def _redis(config: Config) -> str:
    from gateway.broker.connection import Connection
    from gateway.storage.redis import endpoint

    connection = Connection(config.redis)
    queue = connection.queue()
    sending = asyncio.create_task(queue.run())
    try:
        await queue.submit("SET", f"{config.redis.prefix}:check", "1", "EX", 1)
    except BrokerError as error:
        raise OSError(f"{endpoint(config.redis)}: {error}") from error
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
        await connection.aclose()
    return f"{endpoint(config.redis)} takes writes"


async def _embedded() -> str:
    from gateway.storage.binary import find_server

    return f"the gateway will start {find_server()}"


async def _key_set(config: Config) -> str:
    from gateway.auth.jwks import read_jwks

    keys, skipped = await read_jwks(config.auth.jwks_url)
    if not keys:
        raise ValueError("; ".join(["the key set has no usable key", *skipped]))
    return "; ".join([f"{len(keys)} key{'' if len(keys) == 1 else 's'}", *skipped])


async def _outbox(config: Config) -> str:
    from sqlalchemy import make_url

    from gateway.relay.administration import figures
    from gateway.relay.schema import is_missing
    from gateway.storage.sql import Database

    database = Database(config.outbox)
    file = make_url(config.outbox.url).database
    if config.outbox.is_sqlite and not await asyncio.to_thread(Path(file or "").is_file):
        raise OSError(f"there is no file {file}; `nexus-gateway outbox init` makes it")  # connecting would make it
    try:
        found = await figures(database)
    except SqlError as error:
        hint = "; `nexus-gateway outbox init` makes the table" if is_missing(error) else ""
        raise OSError(f"{database.name}: {error}{hint}") from error
    finally:
        await database.aclose()
    return f"{database.name}: {found.waiting} rows wait"


async def _handlers(config: Config) -> str:
    from gateway.backend.handlers import load_handlers

    handlers = load_handlers(config.backend.handlers)
    return ", ".join(f"on_{event}" for event in handlers.events) or "it has no hook"


async def _url(url: str) -> str:
    import httpx

    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            response = await client.request("OPTIONS", url)
    except httpx.HTTPError as error:
        raise OSError(f"no answer: {error or type(error).__name__}") from error
    return f"answers with status {response.status_code}"
