"""The supervisor: starts, watches, restarts and stops the worker processes and the embedded Redis.

It owns the signals, the ports' reservations and the counter table, and touches no connection and no message. It stays
small on purpose: nothing of a web framework, of redis-py or of `edge/` may be imported here.
"""

from gateway.supervisor.keeper import Timing
from gateway.supervisor.supervisor import Serving, Supervisor

__all__ = ["Serving", "Supervisor", "Timing"]
