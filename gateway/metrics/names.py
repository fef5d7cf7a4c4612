"""Every metric of the gateway: name, unit, labels. What is counted, what is timed, what is derived from both.

A worker owns one row of unsigned 64-bit cells (`gateway.metrics.table`), one cell for each line of the first table, so
counting on the delivery path is one addition to an array. The second table names the operations whose time is taken
(`gateway.metrics.latency`); they are values of the label `operation`. The control process reads all rows and exposes
them. The rule that is easiest to break: label values come from this module only, so their number is bounded by
construction; names of channels and users are no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
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
COMPRESSED_CONNECTIONS: Final = _metric("compressed_connections", "gauge", "Those that agreed on compression")
CLIENTS: Final = _metric("clients", "gauge", "Connections that have completed connect")
USERS: Final = _metric("users", "gauge", "Users with at least one connection to the worker")
CHANNELS: Final = _metric("channels", "gauge", "Channels with at least one subscriber on the worker")
SUBSCRIPTIONS: Final = _metric("subscriptions", "gauge", "Subscriptions of connected clients")
QUEUED_BYTES: Final = _metric("fanout_queued_bytes", "gauge", "Bytes of publications that wait for a fan-out pass")
REDIS_CONNECTED: Final = _metric("redis_connected", "gauge", "1 while the subscriber connection to Redis is up")
REDIS_CHANNELS: Final = _metric("redis_channels", "gauge", "Redis channels the worker is subscribed to")
HANDSHAKES_WAITING: Final = _metric("handshakes_waiting", "gauge", "Handshakes that wait for their turn")
LISTENING: Final = _metric("listening", "gauge", "1 while the worker accepts connections, 0 when full or draining")
TASKS: Final = _metric("tasks", "gauge", "asyncio tasks of the worker: none of them belongs to a single connection")
MEMORY_USED: Final = _metric(
    "memory_used_bytes", "gauge", "Memory that counts against the limit, as the worker sees it"
)
MEMORY_LIMIT: Final = _metric("memory_limit_bytes", "gauge", "Memory allowed: control group, machine or configuration")
MEMORY_OWN: Final = _metric("memory_worker_bytes", "gauge", "Resident memory that the worker shares with nobody")
MEMORY_LEVEL: Final = _metric(
    "memory_level", "gauge", "0 normal, 1 shrink caches, 2 halve budgets, 3 refuse, 4 close the slowest, 5 drain"
)
MEMORY_STALLED: Final = _metric("memory_stalled_percent", "gauge", "Time in which processes waited for memory (PSI)")
MEMORY_LONGEST_PAUSE_US: Final = _metric(
    "memory_longest_pause_microseconds", "gauge", "Longest time that collecting, freezing or trimming the heap took"
)

OPENED: Final = _metric("connections_opened", "counter", "WebSocket handshakes completed")
CLOSED: Final = _metric("connections_closed", "counter", "WebSocket connections closed")
_HANDSHAKES = "Handshakes refused"
REFUSED_REQUEST: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "bad_request")
REFUSED_ORIGIN: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "origin")
REFUSED_FULL: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "full")
REFUSED_MEMORY: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "memory")
REFUSED_TLS: Final = _metric("handshakes_refused", "counter", _HANDSHAKES, "reason", "tls")
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
COMPRESSED: Final = _metric("compressed_messages", "counter", "Messages compressed, each for all connections alike")
COMPRESSED_FROM: Final = _metric("compressed_from_bytes", "counter", "Bytes of these messages before")
COMPRESSED_TO: Final = _metric("compressed_to_bytes", "counter", "Bytes of these messages after")
PASSES: Final = _metric("fanout_passes", "counter", "Fan-out passes completed")
_DROPPED = "Publications or deliveries dropped"
DROPPED_INVALID: Final = _metric("dropped", "counter", _DROPPED, "reason", "undecodable")
DROPPED_TOO_LARGE: Final = _metric("dropped", "counter", _DROPPED, "reason", "too_large")
DROPPED_QUEUE: Final = _metric("dropped", "counter", _DROPPED, "reason", "queue_full")
DROPPED_SLOW: Final = _metric("dropped", "counter", _DROPPED, "reason", "slow_consumer")
BYPASSED: Final = _metric(
    "history_bypassed",
    "counter",
    "Publications in channels with history that are not in their log",
    "reason",
    "plain_publish",
)
HEALED: Final = _metric("healed", "counter", "Times a gap in a channel with history was filled from its log")
HEALED_PUBLICATIONS: Final = _metric("healed_publications", "counter", "Publications that filled such gaps")
FELL_BEHIND: Final = _metric("subscribers_behind", "counter", "Times a slow subscriber was left to catch up")
CONTROL_MESSAGES: Final = _metric("control_messages", "counter", "Messages on the control channel")
DROPPED_CONTROL: Final = _metric("control_messages_dropped", "counter", "Those that could not be carried out")
TOLD_LOST: Final = _metric("subscribers_told_lost", "counter", "Subscribers told that publications are gone for good")
RECOVERED: Final = _metric("recoveries", "counter", "Subscriptions that asked to recover", "result", "recovered")
UNRECOVERED: Final = _metric("recoveries", "counter", "Subscriptions that asked to recover", "result", "lost")
INTERRUPTED: Final = _metric(
    "possible_losses",
    "counter",
    "Times a channel without history, with subscribers, was not heard for a while: publications may be lost",
)
REDIS_LOST: Final = _metric("redis_connections_lost", "counter", "Times the subscriber connection to Redis broke")
_ACTIONS = "What the memory governor has done"
MEMORY_SHRUNK: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "shrink_cache")
MEMORY_UNCOMPRESSED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "stop_compression")
MEMORY_COLLECTED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "collect")
MEMORY_HALVED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "halve_budgets")
MEMORY_REFUSED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "refuse")
MEMORY_CLOSED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "close_slowest")
MEMORY_DRAINED: Final = _metric("memory_actions", "counter", _ACTIONS, "action", "drain")
MEMORY_PAUSE_US: Final = _metric(
    "memory_pause_microseconds", "counter", "Time that the loop stood still for collecting, freezing, trimming the heap"
)
MEMORY_DRAINED_MS: Final = _metric("memory_drained_milliseconds", "counter", "Monotonic time of the last such drain")
RESTARTS: Final = _metric("worker_restarts", "counter", "Times a worker was started again after its end")
_CALLS = "Calls to hooks into the backend"
BACKEND_ANSWERED: Final = _metric("backend_calls", "counter", _CALLS, "result", "answered")
BACKEND_REFUSED: Final = _metric("backend_calls", "counter", _CALLS, "result", "refused")
BACKEND_FAILED: Final = _metric("backend_calls", "counter", _CALLS, "result", "failed")
BACKEND_LATE: Final = _metric("backend_calls", "counter", _CALLS, "result", "late")
BACKEND_BUSY: Final = _metric("backend_calls", "counter", _CALLS, "result", "too_many")
BACKEND_OPEN: Final = _metric("backend_calls", "counter", _CALLS, "result", "circuit_open")
BACKEND_RETRIES: Final = _metric("backend_retries", "counter", "Calls to the backend that were sent a second time")
BACKEND_CIRCUITS: Final = _metric("backend_circuits_opened", "counter", "Times calls of one kind were suspended")
EVENTS: Final = _metric("lifecycle_events", "counter", "Events of clients written to the stream")
EVENTS_DROPPED: Final = _metric("lifecycle_events_dropped", "counter", "Those dropped: too many waited for Redis")
EVENTS_REAPED: Final = _metric("lifecycle_events_reaped", "counter", "Those told for clients of a worker that died")
ERRORS: Final = _metric("internal_errors", "counter", "Unexpected exceptions, each logged")

METRICS: Final[tuple[Metric, ...]] = tuple(_metric.declared)
"""The table, in cell order."""
del _metric  # the table is complete: nothing can be added from here on


class Operation(NamedTuple):
    """Something whose time is taken: a value of the label `operation`, and from where to where it is measured."""

    name: str
    help: str


class _Operations:
    """Numbers the operations as they are declared below."""

    def __init__(self) -> None:
        self.declared: list[Operation] = []

    def __call__(self, name: str, help_text: str) -> int:
        self.declared.append(Operation(name, help_text))
        return len(self.declared) - 1


_operation = _Operations()

OP_CONNECT: Final = _operation("connect", "connect of a client, until its reply is queued")
OP_SUBSCRIBE: Final = _operation(
    "subscribe", "subscribe of a client, until its reply is queued; a batch waits together"
)
OP_PUBLISH: Final = _operation("publish", "publish of a client, until Redis has it and the reply is queued")
OP_RPC: Final = _operation("rpc", "rpc of a client, until its reply is queued")
OP_HISTORY: Final = _operation("history", "history of a client, until its reply is queued")
OP_PRESENCE: Final = _operation("presence", "presence or presence_stats of a client, until its reply is queued")
OP_BROADCAST: Final = _operation(
    "broadcast", "A fan-out pass: from the arrival of its first publication from Redis to the write to its last socket"
)
OP_PUBLISH_TO_SOCKET: Final = _operation(
    "publish_to_socket",
    "From the publish of a client to the write to the last socket of its own worker; a sample, one at a time a worker",
)
OP_REDIS_CANARY: Final = _operation(
    "redis_canary", "A worker's own message: from publishing to its arrival at the same worker's subscriber"
)
OP_REDIS_ROUND_TRIP: Final = _operation("redis_round_trip", "A batch of commands, from sending it to Redis' answer")
OP_LOOP_LAG: Final = _operation("loop_lag", "How late the event loop wakes a timer, looked at four times a second")
EDGE_OPERATIONS: Final = range(len(_operation.declared))
"""What edge workers time."""

API_METHODS: Final = (
    *("publish", "broadcast", "subscribe", "unsubscribe", "disconnect", "refresh", "presence", "presence_stats"),
    *("history", "history_remove", "revoke_token", "invalidate_user_tokens", "channels", "info", "rpc", "batch"),
    *("latency", "other"),
)
"""Methods of the HTTP API that are timed by name; any further one is `other`."""
API_OPERATIONS: Final[Mapping[str, int]] = MappingProxyType(
    {name: _operation(f"api_{name}", f"API method {name}, from its request to its answer") for name in API_METHODS}
)
CONTROL_OPERATIONS: Final = range(OP_REDIS_ROUND_TRIP, OP_LOOP_LAG + 1 + len(API_METHODS))
"""What the control process times: it has a Redis connection and a loop, too."""

OPERATIONS: Final[tuple[Operation, ...]] = tuple(_operation.declared)
"""The table, in order."""
del _operation


class Exposed(NamedTuple):
    """A metric that is derived when it is asked for, with its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


BUILD_INFO: Final = Exposed("gateway_build_info", "Version of the gateway", ("version", "python"))
WORKERS: Final = Exposed("gateway_workers", "Edge workers by state", ("state",))
HEARTBEAT_AGE: Final = Exposed(
    "gateway_worker_heartbeat_age_seconds", "Time since the event loop last moved", ("worker",)
)
START_TIME: Final = Exposed(
    "gateway_worker_start_time_seconds", "Start of the worker, seconds since 1970-01-01 UTC", ("worker",)
)
OPERATION_SECONDS: Final = Exposed(
    "gateway_operation_seconds", "Time of operations, all processes together, since the gateway started", ("operation",)
)
RECENT_SECONDS: Final = Exposed(
    "gateway_operation_recent_seconds",
    "Time of operations in the last minute, all processes together, as POST /api/latency shows it",
    ("operation", "statistic"),
)
RECENT_COUNT: Final = Exposed(
    "gateway_operation_recent_count", "Operations in the last minute, all processes together", ("operation",)
)
OUTBOX_ROWS: Final = Exposed(
    "gateway_outbox_rows", "Rows of the outbox, by what this node's relay has done with them", ("result",)
)
OUTBOX_WAITING: Final = Exposed("gateway_outbox_waiting", "Rows in the outbox that are not dead, 100000 at most")
OUTBOX_DEAD: Final = Exposed("gateway_outbox_dead", "Dead letters in the outbox, 100000 at most")
OUTBOX_OLDEST: Final = Exposed("gateway_outbox_oldest_seconds", "Age of the oldest row that could leave, 0 = none")
OUTBOX_UP: Final = Exposed("gateway_outbox_up", "1 while the relay gets on, 0 while the database or Redis is away")
INGEST_ENTRIES: Final = Exposed(
    "gateway_ingest_entries", "Entries of the ingest stream, by what this node's relay has done with them", ("result",)
)
INGEST_WAITING: Final = Exposed("gateway_ingest_waiting", "Entries in the ingest stream")
INGEST_OLDEST: Final = Exposed("gateway_ingest_oldest_seconds", "Age of the oldest entry, 0 = none")
INGEST_ACTIVE: Final = Exposed("gateway_ingest_active", "1 on the node that relays the ingest stream at the moment")
SQL_POOL: Final = Exposed("gateway_sql_pool_connections", "Connections to the outbox's database", ("state",))
STATISTICS: Final = ("avg", "min", "max", "p50", "p90", "p95", "p99")
"""Values of the label `statistic`."""
BOUNDS_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
"""Upper bounds of the exposed buckets, in seconds. 0.2 and its tenths and tenfolds are exact; the others are those of
the nearest fine bucket, off by 2 % at most."""
