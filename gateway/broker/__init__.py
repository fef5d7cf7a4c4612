"""Redis as the bus: a subscriber connection that reports every loss, a queue for commands, and the log of a channel.

This room knows Redis channels and payloads, not who is subscribed. The rule that is easiest to break: every change of
what the worker is subscribed to goes through `Subscriber`, whose connection answers commands in order.
"""

from gateway.broker.commands import CommandQueue
from gateway.broker.connection import Connection, Subscribes
from gateway.broker.functions import keep_functions
from gateway.broker.lifecycle import LifecycleEvent, LifecycleStore
from gateway.broker.link import SubscriberListener
from gateway.broker.log import ChannelLog, Page, Published
from gateway.broker.presence import PresenceStore
from gateway.broker.revocations import RevocationStore
from gateway.broker.rules import RulesStore, keep_rules
from gateway.broker.streams import Life, Outcome, StoredStream, StreamStore, stream_channel
from gateway.broker.subscriber import Subscriber
from gateway.broker.user_places import Entered, UserPlaces

__all__ = [
    "ChannelLog",
    "CommandQueue",
    "Connection",
    "Entered",
    "Life",
    "LifecycleEvent",
    "LifecycleStore",
    "Outcome",
    "Page",
    "PresenceStore",
    "Published",
    "RevocationStore",
    "RulesStore",
    "StoredStream",
    "StreamStore",
    "Subscriber",
    "SubscriberListener",
    "Subscribes",
    "UserPlaces",
    "keep_functions",
    "keep_rules",
    "stream_channel",
]
