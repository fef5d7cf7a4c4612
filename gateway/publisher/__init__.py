"""What backends import to publish: `AsyncPublisher` for asyncio, `Publisher` for threads and scripts.

Importing this is cheap: no web framework, no server, no logging set-up. This room knows which channels have a log (it
must agree with the gateway's namespaces, see `from_config`) and when a publication may be sent again. The rule that is
easiest to break: only what carries an idempotency key is ever sent twice.
"""

from gateway.errors import (
    BrokerBusy,
    BrokerError,
    BrokerRefused,
    BrokerUnavailable,
    PublisherClosed,
    PublishFailed,
    PublishInvalid,
)
from gateway.publisher.asynchronous import AsyncPublisher
from gateway.publisher.blocking import Publisher
from gateway.publisher.messages import Binary, History, Message, RawJSON
from protocol.position import Position

__all__ = [
    "AsyncPublisher",
    "Binary",
    "BrokerBusy",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnavailable",
    "History",
    "Message",
    "Position",
    "PublishFailed",
    "PublishInvalid",
    "Publisher",
    "PublisherClosed",
    "RawJSON",
]
