"""Every metric that an edge worker counts: name, unit, labels, in one table.

A worker owns one row of unsigned 64-bit cells (`gateway.metrics.table`), one cell for each line below, so counting on
the delivery path is one addition to an array. The control process reads all rows and exposes them. Label values come
from this table only, so their number is bounded by construction.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge"]


class Metric(NamedTuple):
    """One cell of a worker's row. `name` as exposed, without the `_total` that the exposition adds to counters."""

    name: str
    kind: Kind
    help: str
    label: str = ""
    value: str = ""


class _Cells:
    """Numbers the metrics as they are declared below."""

    def __init__(self) -> None:
        self.declared: list[Metric] = []

    def __call__(self, name: str, kind: Kind, help_text: str, label: str = "", value: str = "") -> int:
        self.declared.append(Metric(f"gateway_{name}", kind, help_text, label, value))
        return len(self.declared) - 1


_metric = _Cells()

# Written by the process itself, not exposed one by one.
PID: Final = _metric("worker_pid", "gauge", "Process id of the worker, 0 while it is not running")
BEAT_MS: Final = _metric("worker_beat_milliseconds", "gauge", "Monotonic time of the event loop's last heartbeat")
STARTED_S: Final = _metric("worker_started_seconds", "gauge", "Start of the worker, seconds since 1970-01-01 UTC")
READY: Final = _metric("worker_ready", "gauge", "1 while the worker takes connections and is in touch with Redis")

CONNECTIONS: Final = _metric("connections", "gauge", "WebSocket connections that are open")
CLIENTS: Final = _metric("clients", "gauge", "Connections that have completed connect")
USERS: Final = _metric("users", "gauge", "Users with at least one connection to the worker")
CHANNELS: Final = _metric("channels", "gauge", "Channels with at least one subscriber on the worker")
SUBSCRIPTIONS: Final = _metric("subscriptions", "gauge", "Subscriptions of connected clients")
QUEUED_BYTES: Final = _metric("fanout_queued_bytes", "gauge", "Bytes of publications that wait for a fan-out pass")
REDIS_CONNECTED: Final = _metric("redis_connected", "gauge", "1 while the subscriber connection to Redis is up")
REDIS_CHANNELS: Final = _metric("redis_channels", "gauge", "Redis channels the worker is subscribed to")
HANDSHAKES_WAITING: Final = _metric("handshakes_waiting", "gauge", "Handshakes that wait for their turn")
LISTENING: Final = _metric("listening", "gauge", "1 while the worker accepts connections, 0 when full or draining")

OPENED: Final = _metric("connections_opened", "counter", "WebSocket handshakes completed")
CLOSED: Final = _metric("connections_closed", "counter", "WebSocket connections closed")
_HANDSHAKES = "Handshakes refused"
REFUSED_REQUEST: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "bad_request")
REFUSED_ORIGIN: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "origin")
REFUSED_FULL: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "full")
REFUSED_TIMEOUT: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "timeout")
REFUSED_ADDRESS: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "address")
REFUSED_PACE: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "pace")
REFUSED_PROXY: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "proxy_protocol")
HANDSHAKES_PACED: Final = _metric("handshakes_paced", "counter", "Handshakes that had to wait for their turn")
AUTH_FAILURES: Final = _metric("authentication_failures", "counter", "Connect commands with an invalid token")
AUTH_DELAYED: Final = _metric("authentication_answers_delayed", "counter", "Those that were answered late")
_USER_LIMIT = "Times a user had too many connections"
USER_REFUSED: Final = _metric("user_limit", "counter", _USER_LIMIT, "result", "refused_new")
USER_CLOSED_OLDEST: Final = _metric("user_limit", "counter", _USER_LIMIT, "result", "closed_oldest")
RATE_LIMITED: Final = _metric("commands_refused", "counter", "Commands and publications above a rate limit")
AGED: Final = _metric("connections_aged", "counter", "Connections closed at their maximum age")

COMMANDS: Final = _metric("commands", "counter", "Commands received from clients")
COMMAND_ERRORS: Final = _metric("command_errors", "counter", "Commands answered with an error")
BYTES_IN: Final = _metric("received_bytes", "counter", "Bytes received from clients")
PINGS: Final = _metric("pings", "counter", "Pings sent to clients")
NO_PONG: Final = _metric("pongs_missed", "counter", "Clients closed because a ping went unanswered")

PUBLICATIONS: Final = _metric("publications", "counter", "Publications taken from Redis")
PUBLISHED: Final = _metric("client_publications", "counter", "Publications sent to Redis for clients")
DELIVERIES: Final = _metric("deliveries", "counter", "Publications handed to client sockets")
BYTES_OUT: Final = _metric("delivered_bytes", "counter", "Bytes of publications handed to client sockets")
PASSES: Final = _metric("fanout_passes", "counter", "Fan-out passes completed")
_DROPPED = "Publications or deliveries dropped"
DROPPED_INVALID: Final = _metric("dropped", "counter", _DROPPED, "reason", "undecodable")
DROPPED_TOO_LARGE: Final = _metric("dropped", "counter", _DROPPED, "reason", "too_large")
DROPPED_QUEUE: Final = _metric("dropped", "counter", _DROPPED, "reason", "queue_full")
DROPPED_SLOW: Final = _metric("dropped", "counter", _DROPPED, "reason", "slow_consumer")
HEALED: Final = _metric("healed", "counter", "Times a gap in a channel with history was filled from its log")
HEALED_PUBLICATIONS: Final = _metric("healed_publications", "counter", "Publications that filled such gaps")
FELL_BEHIND: Final = _metric("subscribers_behind", "counter", "Times a slow subscriber was left to catch up")
CONTROL_MESSAGES: Final = _metric("control_messages", "counter", "Messages on the control channel")
DROPPED_CONTROL: Final = _metric("control_messages_dropped", "counter", "Those that could not be carried out")
TOLD_LOST: Final = _metric("subscribers_told_lost", "counter", "Subscribers told that publications are gone for good")
RECOVERED: Final = _metric("recoveries", "counter", "Subscriptions that asked to recover", "result", "recovered")
UNRECOVERED: Final = _metric("recoveries", "counter", "Subscriptions that asked to recover", "result", "lost")
REDIS_LOST: Final = _metric("redis_connections_lost", "counter", "Times the subscriber connection to Redis broke")
ERRORS: Final = _metric("internal_errors", "counter", "Unexpected exceptions, each logged")

METRICS: Final[tuple[Metric, ...]] = tuple(_metric.declared)
"""The table, in cell order."""
del _metric  # the table is complete: nothing can be added from here on
