"""What happens to clients, in a Redis Stream that backends read; and who answers for the clients of each worker.

Each worker has a lease. With each event the same script (`lua/lifecycle.lua`, where the keys are described) notes in a
hash of the worker's which clients it has. When a lease has run out any worker may reap: the script tells that the
clients are gone and takes them out of the hash in one step, so however many workers do it, each client is told once.

An event that is sent again is left out by its number. The rule that is easiest to break: the name of a worker is never
used a second time; one that has lost its lease begins anew under another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from gateway.broker.commands import Argument, CommandQueue
from gateway.broker.scripts import Script, converted
from protocol.redis_contract import clients_key, workers_key

Kind = Literal["connected", "disconnected", "subscribed", "unsubscribed"]

REAPED_AT_ONCE: Final = 500
"""Clients in one run of the script."""


class LifecycleEvent(NamedTuple):
    """One entry of the stream, in the order of the script's arguments."""

    number: int
    """From 1, without holes upwards, for each name of a worker."""
    kind: Kind
    client: str
    user: str
    at_ms: int
    """Milliseconds since 1970 UTC."""
    channel: str = ""
    reason: str = ""


class Renewed(NamedTuple):
    """What a renewal found."""

    has_lease: bool
    dead: list[str]
    """Workers whose leases have run out."""


class Reaped(NamedTuple):
    """What a run of the reaper did."""

    clients: int
    done: bool


class LifecycleStore:
    """Writes events. Every method raises BrokerBusy at once, every future another BrokerError."""

    def __init__(
        self, commands: CommandQueue, *, prefix: str, stream: str, kept: int, lease_s: float, node: str
    ) -> None:
        """`kept`: entries that the stream keeps, about."""
        self._commands = commands
        self._prefix = prefix
        self._stream = stream
        self._kept = kept
        self._lease_ms = int(lease_s * 1000)
        self._node = node
        self._script = Script("lifecycle")

    def begin(self, worker: str) -> asyncio.Future[Any]:
        """Give a new worker its lease."""
        return self._run("begin", worker)

    def renew(self, worker: str) -> asyncio.Future[Renewed]:
        """Begin the lease anew, and look for those of others that have run out."""
        return converted(
            self._run("renew", worker), lambda found: Renewed(bool(found[0]), [each.decode() for each in found[1]])
        )

    def append(self, worker: str, events: Sequence[LifecycleEvent]) -> asyncio.Future[bool]:
        """Write events. False = the worker has no lease any more, and nothing was written."""
        words: list[Argument] = []
        for each in events:
            words += (each.number, each.kind, each.client, each.user, each.at_ms, each.channel, each.reason)
        return converted(self._run("append", worker, *words, size=100 * len(events)), bool)

    def end(self, worker: str, at_ms: int) -> asyncio.Future[Reaped]:
        """Forget a worker that ends, and tell of the clients that it leaves behind."""
        return converted(self._run("end", worker, at_ms), _reaped)

    def reap(self, worker: str, at_ms: int) -> asyncio.Future[Reaped]:
        """Tell of some of the clients of a worker whose lease has run out."""
        return converted(self._run("reap", worker, at_ms, REAPED_AT_ONCE), _reaped)

    def _run(self, operation: str, worker: str, *arguments: Argument, size: int = 0) -> asyncio.Future[Any]:
        keys = (
            self._stream,
            clients_key(self._prefix, self._stream, worker),
            workers_key(self._prefix, self._stream),
        )
        head = (operation, worker, self._lease_ms, self._kept, self._node)
        return self._script.submit(self._commands, keys, (*head, *arguments), size=size)


def _reaped(answer: Any) -> Reaped:
    return Reaped(int(answer[0]), bool(answer[1]))
