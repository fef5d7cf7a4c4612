"""The public port: listener, handshake, connections, keepalive, drain.

This room moves bytes between sockets and sessions. Nothing here blocks, and nothing here knows what a command means.
"""

from gateway.edge.addresses import AddressCounts
from gateway.edge.admission import Admission
from gateway.edge.canary import Canary
from gateway.edge.compression import Compression
from gateway.edge.connection import Connection
from gateway.edge.deadlines import Deadlines
from gateway.edge.drain import drain
from gateway.edge.keepalive import KeepaliveWheel
from gateway.edge.listener import Listener
from gateway.edge.opening import Opening
from gateway.edge.pace import HandshakePace
from gateway.edge.readiness import Readiness
from gateway.edge.relief import Relief
from gateway.edge.shared import Shared
from gateway.edge.tend import tend
from gateway.edge.tls import Tls

__all__ = [
    "AddressCounts",
    "Admission",
    "Canary",
    "Compression",
    "Connection",
    "Deadlines",
    "HandshakePace",
    "KeepaliveWheel",
    "Listener",
    "Opening",
    "Readiness",
    "Relief",
    "Shared",
    "Tls",
    "drain",
    "tend",
]
