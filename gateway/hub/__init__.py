"""Who is subscribed here, and how a publication reaches all of them.

`Hub` is the index of one worker: channels, their receivers, users and their sessions. `Fanout` delivers in passes.
`Interest` keeps the worker's Redis subscriptions in step with the channels that have receivers. Everything happens on
the loop's own thread; nothing here waits. The rule that is easiest to break: a receiver that is closing must be taken
out of its channels before anything else is written to it.
"""

from gateway.hub.catchup import CatchUp
from gateway.hub.changes import ChangeFanout
from gateway.hub.channel import Channel, Receiver
from gateway.hub.fanout import Fanout
from gateway.hub.hub import Hub
from gateway.hub.interest import Interest
from gateway.hub.presence import Presence, is_unobserved
from gateway.hub.roll import Observed
from gateway.hub.users import UserIndex

__all__ = [
    "CatchUp",
    "ChangeFanout",
    "Channel",
    "Fanout",
    "Hub",
    "Interest",
    "Observed",
    "Presence",
    "Receiver",
    "UserIndex",
    "is_unobserved",
]
