"""What an operator can do from the dashboard: disconnect a user, publish to a channel, drain a worker.

The first two go the ways of the HTTP API. Draining is SIGTERM to the worker's process: it takes no new connections,
closes its clients one by one over `server.drain_window_s`, ends, and the supervisor starts another in its place. The
rule that is easiest to break: a process id may already belong to somebody else. It is taken from the worker's own row,
held by a pidfd, and looked at again before the signal is sent.
"""

from __future__ import annotations

import os
import signal
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.control.answers import ApiError
from gateway.control.bus import Bus
from gateway.control.fleet import worker_name
from gateway.control.methods import Method
from gateway.control.publish import Publishing, PublishRequest, publish_method
from gateway.metrics import CounterTable
from gateway.metrics.names import BEAT_MS, PID
from protocol.codes import BAD_REQUEST, FORCE_DISCONNECT, FORCE_RECONNECT, INTERNAL
from protocol.control_messages import DisconnectClients

FRESH_MS: Final = 60_000
"""Age of a heartbeat from which on the process is not taken for the worker any more."""


class DisconnectUser(msgspec.Struct):
    """`return_`: its clients may come back at once; else SDKs stay away until the user does something."""

    user: str = ""
    return_: bool = msgspec.field(default=False, name="return")


class DrainWorker(msgspec.Struct):
    """`worker`: `edge-1` …"""

    worker: str = ""


class Done(msgspec.Struct):
    """What has happened, for people."""

    message: str


class Actions:
    """The three actions; each as a method, so that requests are read and refused as in the API."""

    def __init__(self, bus: Bus, publishing: Publishing, table: CounterTable, clock: Clock) -> None:
        self._bus = bus
        self._table = table
        self._clock = clock
        self.publish: Method[PublishRequest] = publish_method(publishing)
        self.disconnect = Method(
            "disconnect", "Close the connections of a user", DisconnectUser, Done, self._disconnect
        )
        self.drain = Method("drain", "Drain a worker", DrainWorker, Done, self._drain)

    async def _disconnect(self, request: DisconnectUser) -> Done:
        if not request.user:
            raise ApiError(BAD_REQUEST, "user: is missing")
        code, reason = FORCE_RECONNECT if request.return_ else FORCE_DISCONNECT
        workers = await self._bus.tell(DisconnectClients(user=request.user, code=code, reason=reason))
        return Done(f"{_counted(workers, 'worker')} told to close the connections of {request.user}")

    async def _drain(self, request: DrainWorker) -> Done:
        row = self._row(request.worker)
        pid = row[PID]
        if int(self._clock.monotonic() * 1000) - row[BEAT_MS] > FRESH_MS:
            raise ApiError(BAD_REQUEST, f"worker: {request.worker} has not moved for a minute, it would not drain")
        try:
            _terminate(pid, row)
        except OSError as error:
            raise ApiError(INTERNAL, f"{request.worker} got no signal: {error.strerror}") from error
        return Done(f"{request.worker} drains; another starts in its place when it has ended")

    def _row(self, worker: str) -> memoryview[int]:
        """The counters of a worker that runs, and is not being replaced. Raises ApiError."""
        generations = self._table.generations
        for slot in range(self._table.rows // generations):
            if worker_name(slot) == worker:
                rows = [self._table.row(slot * generations + each) for each in range(generations)]
                running = [row for row in rows if row[PID]]
                if len(running) == 1:
                    return running[0]
                raise ApiError(BAD_REQUEST, f"worker: {worker} {'is being replaced' if running else 'does not run'}")
        raise ApiError(BAD_REQUEST, f'worker: there is no "{worker:.32}"')


def _terminate(pid: int, row: memoryview[int]) -> None:
    """SIGTERM to the process of a row. Raises OSError when it has gone."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # a kernel or sandbox without
        os.kill(pid, signal.SIGTERM)
        return
    try:
        if row[PID] != pid:
            raise ProcessLookupError(0, "it has just ended")
        signal.pidfd_send_signal(process, signal.SIGTERM)
    finally:
        os.close(process)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
