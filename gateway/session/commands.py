"""Carrying out commands, in order.

Theory of operation. `receive` takes the commands of one WebSocket message. They run in order, on the caller's stack,
without a task: nearly all of them end at once. One that waits (for Redis to confirm a channel) suspends the rest; when
too many wait, the socket is not read until they are done. Consecutive `subscribe` commands are one step, so that 100
channels wait once.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from gateway.metrics import names
from gateway.session.connecting import connect, refresh
from gateway.session.history import history
from gateway.session.hooks import rpc
from gateway.session.outcomes import Disconnect, Refusal
from gateway.session.presence import presence, presence_stats
from gateway.session.publishing import publish
from gateway.session.streaming import CANCEL, cancel_stream
from gateway.session.subscribing import sub_refresh, subscribe, unsubscribe
from gateway.session.timing import record
from gateway.tasks import Steps
from protocol.codes import (
    BAD_COMMAND,
    BAD_REQUEST,
    METHOD_NOT_FOUND,
    SERVER_ERROR,
    TOO_MANY_COMMANDS,
    TOO_MANY_REQUESTS,
)
from protocol.commands import REQUESTS, Command
from protocol.replies import PingResult, Reply

if TYPE_CHECKING:
    from gateway.session.session import Session

MAX_ID: Final = 2**32 - 1
"""Command ids are uint32."""
WAITING: Final = 16
"""Commands that may wait behind one that waits for Redis; with more, the socket is not read meanwhile."""


class CommandQueue:
    """The commands of one session: admitted at a rate, carried out one after the other."""

    __slots__ = ("_full_again_at", "_queue", "_refused", "_steps")

    def __init__(self) -> None:
        self._queue: list[Command] = []
        self._steps: Steps | None = None
        self._full_again_at = 0.0
        self._refused = 0

    def receive(self, session: Session, commands: list[Command]) -> None:
        """Take the commands of one message. All answers that are due at once leave in one write."""
        if session.closed_with is not None:
            return
        context = session.context
        context.counters[names.COMMANDS] += len(commands)
        now = context.clock.monotonic()
        admitted, self._full_again_at = context.rate.admit(self._full_again_at, len(commands), now)
        if context.rates.user_commands is not None:
            admitted = context.rates.user_commands.admit(session.user, admitted, now)
        refused = self._refused
        if admitted:
            self._queue.extend(commands[:admitted] if admitted < len(commands) else commands)
            if self._steps is None:
                self._run(session)
            elif len(self._queue) > WAITING:
                session.outlet.pause_commands()
        if admitted < len(commands):
            self._refuse(session, commands[admitted:])
        elif self._refused and self._refused == refused:
            self._refused -= 1
        session.outlet.flush()

    def close(self) -> None:
        """Carry out nothing more; a command that waits is stopped where it waits."""
        self._queue.clear()
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()

    def _refuse(self, session: Session, commands: list[Command]) -> None:
        """Too many commands: an error for each, and the door for a client that does not listen."""
        session.context.counters[names.RATE_LIMITED] += len(commands)
        for command in commands:
            self._refused += 1
            if self._refused > session.context.config.limits.commands_burst:
                session.disconnect(TOO_MANY_COMMANDS, f"{self._refused} commands above the rate limit")
                return
            session.fail(command.id, Refusal(TOO_MANY_REQUESTS))

    def _run(self, session: Session) -> None:
        steps = Steps(self._carry_out(session), lambda error: self._ended(session, error))
        if not steps.start():
            self._steps = steps

    def _ended(self, session: Session, error: BaseException | None) -> None:
        """All queued commands are carried out: at once, or (then `_steps` is set) after a wait."""
        waited, self._steps = self._steps, None
        if isinstance(error, Disconnect):
            session.disconnect(error.disconnect, error.why)
        elif error is not None:
            session.context.counters[names.ERRORS] += 1
            session.context.log.error("session failed", client=session.client, exc_info=error)
            session.disconnect(SERVER_ERROR, type(error).__name__)
        if waited is not None and session.closed_with is None:
            session.outlet.flush()
            session.outlet.resume_commands()

    async def _carry_out(self, session: Session) -> None:
        queue = self._queue
        begun = perf_counter()
        while queue and session.closed_with is None:
            if self._steps is not None:
                # After a wait: the next command may wait, too, and publications do not wait behind answers that are
                # queued. One must not arrive ahead of the reply to its subscribe.
                session.outlet.flush()
            if session.client and queue[0].subscribe is not None:
                batch = self._leading_subscribes(session)
                await subscribe(session, batch)
                begun = _answered(session, batch, begun)
                continue
            command = queue.pop(0)
            try:
                check_order(session, command)
                await _execute(session, command)
            except Refusal as refusal:
                if refusal.error is TOO_MANY_REQUESTS:
                    self._refuse(session, [command])
                else:
                    session.fail(command.id, refusal)
                if not session.client:
                    # SDKs send their subscribes right behind `connect`, before they know its answer. They will repeat
                    # them after the next `connect`; closing with 3501 would keep them away for good.
                    queue.clear()
            begun = _answered(session, (command,), begun)

    def _leading_subscribes(self, session: Session) -> list[Command]:
        """Take consecutive subscribe commands from the queue; those that break a rule are answered here."""
        batch: list[Command] = []
        while self._queue and self._queue[0].subscribe is not None:
            command = self._queue.pop(0)
            try:
                check_order(session, command)
            except Refusal as refusal:
                session.fail(command.id, refusal)
            else:
                batch.append(command)
        return batch


def _answered(session: Session, commands: Sequence[Command], begun: float) -> float:
    """Take the time of what began at `begun`; that at which the next command begins."""
    now = perf_counter()
    record(session, commands, now - begun)
    return now


def check_order(session: Session, command: Command) -> None:
    """The order rules of the protocol. Raises Disconnect(3501), Refusal(104) or Refusal(107)."""
    requests = len(REQUESTS) - astuple(command).count(None)
    if command.id == 0 and command.send is None:
        raise Disconnect(BAD_COMMAND, "unsolicited pong" if requests == 0 else "command without id")
    if not 0 <= command.id <= MAX_ID:
        raise Disconnect(BAD_COMMAND, "command id out of range")
    if not session.client:
        if command.connect is None:
            raise Disconnect(BAD_COMMAND, "command before connect")
    elif command.connect is not None:
        raise Disconnect(BAD_COMMAND, "second connect")
    if requests == 0:
        raise Refusal(METHOD_NOT_FOUND)
    if requests > 1:
        raise Refusal(BAD_REQUEST, "several requests in one command")


async def _execute(session: Session, command: Command) -> None:
    """One command. Raises Refusal (answered with an error) and Disconnect."""
    if command.connect is not None:
        await connect(session, command.id, command.connect)
    elif command.publish is not None:
        await publish(session, command.id, command.publish)
    elif command.unsubscribe is not None:
        unsubscribe(session, command.id, command.unsubscribe)
    elif command.refresh is not None:
        refresh(session, command.id, command.refresh)
    elif command.sub_refresh is not None:
        sub_refresh(session, command.id, command.sub_refresh)
    elif command.ping is not None:
        session.reply(Reply(id=command.id, ping=PingResult()))
    elif command.history is not None:
        await history(session, command.id, command.history)
    elif command.presence is not None:
        await presence(session, command.id, command.presence)
    elif command.presence_stats is not None:
        await presence_stats(session, command.id, command.presence_stats)
    elif command.rpc is not None:
        desk = session.context.streams
        if desk is not None and command.rpc.method == CANCEL:
            await cancel_stream(desk, session, command.id, command.rpc)
        else:
            await rpc(session, command.id, command.rpc)
    # `send` has no reply, and nobody to hand it to in this version: it ends here.
