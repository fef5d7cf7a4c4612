"""One table of codes: errors in replies, reasons to close a connection, reasons to end a subscription.

Ranges tell SDKs what to do next (Centrifuge client protocol):

* errors: retried when `temporary`, or after fetching a new token for 109;
* disconnects: 3000–3499 and 4000–4499 reconnect, 3500–3999 and 4500–4999 are final;
* unsubscribes: below 2500 final, from 2500 on the SDK subscribes again.

Applications use 400–1999 for errors and 4000–4999 for disconnects.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ErrorCode(NamedTuple):
    """The body of an error reply. `temporary` = the same command may work a moment later."""

    code: int
    message: str
    temporary: bool = False


class DisconnectCode(NamedTuple):
    """Code and reason of a WebSocket close frame (RFC 6455 §7.4: 3000–4999 are free for protocols like this one)."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        """Whether SDKs come back by themselves."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)


class UnsubscribeCode(NamedTuple):
    """Code and reason of an `unsubscribe` push."""

    code: int
    reason: str

    @property
    def resubscribe(self) -> bool:
        """Whether SDKs subscribe again by themselves."""
        return self.code >= 2500


INTERNAL: Final = ErrorCode(100, "internal server error", temporary=True)
UNAUTHORIZED: Final = ErrorCode(101, "unauthorized")
UNKNOWN_CHANNEL: Final = ErrorCode(102, "unknown channel")
PERMISSION_DENIED: Final = ErrorCode(103, "permission denied")
METHOD_NOT_FOUND: Final = ErrorCode(104, "method not found")
ALREADY_SUBSCRIBED: Final = ErrorCode(105, "already subscribed")
LIMIT_EXCEEDED: Final = ErrorCode(106, "limit exceeded")
BAD_REQUEST: Final = ErrorCode(107, "bad request")
NOT_AVAILABLE: Final = ErrorCode(108, "not available")
TOKEN_EXPIRED: Final = ErrorCode(109, "token expired")
EXPIRED: Final = ErrorCode(110, "expired")
TOO_MANY_REQUESTS: Final = ErrorCode(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION: Final = ErrorCode(112, "unrecoverable position")
NOT_RESUMABLE: Final = ErrorCode(410, "not resumable")
"""A token stream that is not there (any more)."""

ERRORS: Final = {
    error.code: error
    for error in (
        INTERNAL,
        UNAUTHORIZED,
        UNKNOWN_CHANNEL,
        PERMISSION_DENIED,
        METHOD_NOT_FOUND,
        ALREADY_SUBSCRIBED,
        LIMIT_EXCEEDED,
        BAD_REQUEST,
        NOT_AVAILABLE,
        TOKEN_EXPIRED,
        EXPIRED,
        TOO_MANY_REQUESTS,
        UNRECOVERABLE_POSITION,
        NOT_RESUMABLE,
    )
}
"""Error code → error."""

CONNECTION_CLOSED: Final = DisconnectCode(3000, "connection closed")
SHUTDOWN: Final = DisconnectCode(3001, "shutdown")
SERVER_ERROR: Final = DisconnectCode(3004, "internal server error")
CONNECTION_EXPIRED: Final = DisconnectCode(3005, "connection expired")
SUBSCRIPTION_EXPIRED: Final = DisconnectCode(3006, "subscription expired")
SLOW: Final = DisconnectCode(3008, "slow")
WRITE_ERROR: Final = DisconnectCode(3009, "write error")
INSUFFICIENT_STATE: Final = DisconnectCode(3010, "insufficient state")
FORCE_RECONNECT: Final = DisconnectCode(3011, "force reconnect")
NO_PONG: Final = DisconnectCode(3012, "no pong")
TOO_MANY_COMMANDS: Final = DisconnectCode(3013, "too many requests")
STATE_INVALIDATED: Final = DisconnectCode(3014, "state invalidated")
INVALID_TOKEN: Final = DisconnectCode(3500, "invalid token")
BAD_COMMAND: Final = DisconnectCode(3501, "bad request")
STALE: Final = DisconnectCode(3502, "stale")
FORCE_DISCONNECT: Final = DisconnectCode(3503, "force disconnect")
CONNECTION_LIMIT: Final = DisconnectCode(3504, "connection limit")
CHANNEL_LIMIT: Final = DisconnectCode(3505, "channel limit")
INAPPROPRIATE_PROTOCOL: Final = DisconnectCode(3506, "inappropriate protocol")
DISCONNECT_PERMISSION_DENIED: Final = DisconnectCode(3507, "permission denied")
DISCONNECT_NOT_AVAILABLE: Final = DisconnectCode(3508, "not available")
TOO_MANY_ERRORS: Final = DisconnectCode(3509, "too many errors")
TRY_AGAIN_LATER: Final = DisconnectCode(1013, "try again later")
"""RFC 6455 registry: the server is too full to admit a client; SDKs come back with backoff."""

DISCONNECTS: Final = {
    disconnect.code: disconnect
    for disconnect in (
        CONNECTION_CLOSED,
        SHUTDOWN,
        SERVER_ERROR,
        CONNECTION_EXPIRED,
        SUBSCRIPTION_EXPIRED,
        SLOW,
        WRITE_ERROR,
        INSUFFICIENT_STATE,
        FORCE_RECONNECT,
        NO_PONG,
        TOO_MANY_COMMANDS,
        STATE_INVALIDATED,
        INVALID_TOKEN,
        BAD_COMMAND,
        STALE,
        FORCE_DISCONNECT,
        CONNECTION_LIMIT,
        CHANNEL_LIMIT,
        INAPPROPRIATE_PROTOCOL,
        DISCONNECT_PERMISSION_DENIED,
        DISCONNECT_NOT_AVAILABLE,
        TOO_MANY_ERRORS,
        TRY_AGAIN_LATER,
    )
}
"""Close code → disconnect."""

UNSUBSCRIBED_BY_SERVER: Final = UnsubscribeCode(2000, "server unsubscribe")
UNSUBSCRIBED_INSUFFICIENT: Final = UnsubscribeCode(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED: Final = UnsubscribeCode(2501, "expired")

UNSUBSCRIBES: Final = {
    unsubscribe.code: unsubscribe
    for unsubscribe in (UNSUBSCRIBED_BY_SERVER, UNSUBSCRIBED_INSUFFICIENT, UNSUBSCRIBED_EXPIRED)
}
"""Unsubscribe code → unsubscribe."""
