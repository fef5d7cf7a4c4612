"""How a session asks the backend: with what, where there is no task, and what the protocol makes of the answer.

Command handlers run without a task, calls to a backend need one: `ask` makes it, waits, and cancels it when the client
goes. Other clients go on meanwhile; later commands of this one wait behind, in order. The rule that is easiest to
break: whatever was looked up before a call may be different after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from msgspec import UNSET, Raw

from gateway import backend
from gateway.auth import Override
from gateway.errors import BackendUnavailable
from gateway.session.outcomes import Disconnect, Refusal
from protocol.codes import BAD_REQUEST, ERRORS, INTERNAL, DisconnectCode, ErrorCode
from protocol.commands import Data
from protocol.encodings.json import json_line
from protocol.errors import DecodeError

if TYPE_CHECKING:
    from gateway.session.session import Session

R = TypeVar("R")


class Hooked:
    """What a session remembers for the backend. Sessions that no hook concerns have none."""

    __slots__ = ("channels", "client", "data", "lets_in", "meta", "refreshing")

    def __init__(self, client: str = "", meta: Raw | None = None) -> None:
        self.client = client
        """The client's id, when the backend has been told it before the client was."""
        self.meta = meta
        self.data: Raw | None = None
        """What the reply to `connect` says."""
        self.lets_in = False
        """The backend let the client in, and refreshes it."""
        self.channels: set[str] = set()
        """Channels that the backend allowed, and refreshes."""
        self.refreshing: asyncio.Task[None] | None = None


class Who(TypedDict):
    client: str
    user: str
    protocol: str
    meta: Raw | None
    headers: dict[str, str]


def who(session: Session) -> Who:
    """The fields that every context has."""
    hooked = session.hooked
    return {
        "client": session.client or (hooked.client if hooked is not None else ""),
        "user": session.user,
        "protocol": session.outlet.encoding.name,
        "meta": hooked.meta if hooked is not None else None,
        "headers": dict(session.outlet.headers),
    }


async def ask(call: Callable[[], Awaitable[R]]) -> R:
    """The answer, waited for where there is no task. Raises Refusal and Disconnect."""
    task = asyncio.get_running_loop().create_task(translated(call))
    try:
        return await task
    except asyncio.CancelledError:
        # Nobody but the handler itself cancels it while somebody waits.
        raise Refusal(INTERNAL) from None
    finally:
        if not task.cancel() and not task.cancelled():
            task.exception()  # The client is gone: nobody else will look at it.


async def translated(call: Callable[[], Awaitable[R]]) -> R:
    """The answer, or what the protocol makes of an answer that is none."""
    try:
        return await call()
    except BackendUnavailable as error:
        raise Refusal(INTERNAL) from error
    except backend.Refused as refused:
        known = ERRORS.get(refused.code)
        temporary = refused.temporary or (known is not None and known.temporary)
        message = refused.message or (known.message if known is not None else "refused")
        raise Refusal(ErrorCode(refused.code, message, temporary)) from refused
    except backend.Disconnected as disconnected:
        raise Disconnect(DisconnectCode(disconnected.code, disconnected.reason), "backend") from disconnected


def document(data: Data) -> Raw | None:
    """What the client sent. Raises Refusal(107)."""
    if data is UNSET:
        return None
    try:
        return Raw(json_line(bytes(data)))
    except DecodeError as error:
        raise Refusal(BAD_REQUEST, f"data is {error}") from error


def as_bytes(document: Any) -> bytes | None:
    return None if document is None else bytes(document)


def as_override(override: backend.Override | None) -> Override:
    if override is None:
        return Override()
    return Override(
        presence=None if override.presence is None else override.presence.value,
        join_leave=None if override.join_leave is None else override.join_leave.value,
        force_recovery=None if override.force_recovery is None else override.force_recovery.value,
        force_positioning=None if override.force_positioning is None else override.force_positioning.value,
    )
