"""Which operation of the metrics a command is, and its channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.metrics import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.session.session import Session
    from protocol.commands import Command


def record(session: Session, commands: Iterable[Command], seconds: float) -> None:
    """These commands were carried out together, in so much time; each is answered, perhaps with an error.

    `publish` is not meant: its answer comes later, and is timed where it comes.
    """
    latency = session.context.latency
    if latency is None:
        return
    for command in commands:
        if command.subscribe is not None:
            latency.record(names.OP_SUBSCRIBE, seconds, command.subscribe.channel, session.user)
        elif command.connect is not None:
            latency.record(names.OP_CONNECT, seconds, "", session.user)
        elif command.rpc is not None:
            latency.record(names.OP_RPC, seconds, "", session.user)
        elif command.history is not None:
            latency.record(names.OP_HISTORY, seconds, command.history.channel, session.user)
        elif command.presence is not None:
            latency.record(names.OP_PRESENCE, seconds, command.presence.channel, session.user)
        elif command.presence_stats is not None:
            latency.record(names.OP_PRESENCE, seconds, command.presence_stats.channel, session.user)
