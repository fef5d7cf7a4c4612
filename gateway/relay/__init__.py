"""Events that a backend has committed reach its clients: an outbox in its own database, or a Redis Stream.

Backends import `outbox_event`, which makes the INSERT for their transaction. The relay runs in the gateway's control
process. README.md beside this file is its chapter for users. The rule that is easiest to break: a row leaves the table
after Redis has it, never before.
"""

from gateway.relay.events import outbox_event

__all__ = ["outbox_event"]
