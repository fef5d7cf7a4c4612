"""Redis as the bus: a subscriber connection that reports every loss, and a queue for publishing.

This room knows Redis channels and payloads, not who is subscribed. The rule that is easiest to break: every change of
what the worker is subscribed to goes through `Subscriber`, whose connection answers commands in order.
"""

from gateway.broker.publish import PublishQueue
from gateway.broker.subscriber import Subscriber, SubscriberListener

__all__ = ["PublishQueue", "Subscriber", "SubscriberListener"]
