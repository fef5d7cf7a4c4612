"""The log line of a connection that has ended."""

from __future__ import annotations

from websockets.server import ServerProtocol

from gateway.edge.shared import Shared
from gateway.session import Session


def log_closed(
    shared: Shared,
    session: Session,
    *,
    websocket: ServerProtocol | None,
    peer: str,
    opened_at: float,
    error: Exception | None,
) -> None:
    """Say who has left, with which code, and who was first to close."""
    close, first = None, "network"
    if websocket is not None:
        close = websocket.close_sent or websocket.close_rcvd
        first = "client" if websocket.close_rcvd_then_sent else "gateway" if websocket.close_sent else "network"
    shared.log.info(
        "connection closed",
        client=session.client,
        user=session.user,
        peer=peer,
        code=close.code if close is not None else 1006,
        reason=(close.reason if close is not None else str(error or "connection lost")),
        closed_by=first,
        seconds=round(shared.session.clock.monotonic() - opened_at, 1),
    )
