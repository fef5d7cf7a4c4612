"""Every method of the API, made from what they work with."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.broker import ChannelLog, CommandQueue, PresenceStore, RevocationStore
from gateway.clock import Clock
from gateway.config import Config
from gateway.control.clients import client_methods
from gateway.control.history import history_methods
from gateway.control.methods import Method
from gateway.control.nodes import NodeRegistry, info_method
from gateway.control.presence import presence_methods
from gateway.control.publish import publish_methods
from gateway.control.revoke import revoke_methods
from gateway.control.rpc import rpc_method
from gateway.control.survey import Surveys, channels_method


class Backends(NamedTuple):
    """What the methods work with. `reads` is a queue with few commands in a round trip, for large answers."""

    writes: CommandQueue
    reads: CommandQueue
    log: ChannelLog
    presence: PresenceStore
    revocations: RevocationStore
    nodes: NodeRegistry

    @classmethod
    def on(cls, writes: CommandQueue, reads: CommandQueue, nodes: NodeRegistry, config: Config) -> Backends:
        """Everything on two queues."""
        prefix = config.redis.prefix
        return cls(
            writes=writes,
            reads=reads,
            log=ChannelLog(writes, reads, prefix=prefix),
            presence=PresenceStore(reads, prefix=prefix, lease_s=config.delivery.presence_lease_s),
            revocations=RevocationStore(writes, prefix=prefix),
            nodes=nodes,
        )


def all_methods(config: Config, backends: Backends, clock: Clock) -> list[Method[Any]]:
    """Every method but `batch`."""
    surveys = Surveys(backends.writes, backends.reads, clock, prefix=config.redis.prefix)
    return [
        *publish_methods(config, backends.writes, backends.log),
        *client_methods(config, backends.writes, clock),
        *presence_methods(config, backends.presence),
        *history_methods(config, backends.log),
        channels_method(surveys),
        info_method(backends.nodes),
        rpc_method(),
        *revoke_methods(backends.revocations, clock),
    ]
