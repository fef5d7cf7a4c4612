"""Events that a backend has committed reach its clients: an outbox in its own database, or a Redis Stream.

Backends import `outbox_event`, which makes the INSERT for their transaction. The relay runs in the gateway's control
process. README.md beside this file is its chapter for users. The rule that is easiest to break: a row leaves the table
after Redis has it, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.relay.events import outbox_event

__all__ = ["outbox_event"]


def __getattr__(name: str) -> Any:
    """SQLAlchemy is loaded by those who use it: not by a control process that has no outbox."""
    if name != "outbox_event":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway.relay.events import outbox_event  # noqa: PLC0415 - see above

    return outbox_event
