"""The control port: HTTP API for backends, health and metrics of all workers, dashboard, demo page.

This room may block nothing but itself: it shares no loop with client connections. It reads the workers' counters from
shared memory and talks to them through Redis only. The rule that is easiest to break: everything that a
browser can reach here goes through `guard`, because a page from anywhere can send requests to a port on loopback.
"""

from gateway.control.app import ControlParts, build_app
from gateway.control.bus import Bus
from gateway.control.caches import CacheReport
from gateway.control.dashboard_live import Dashboard
from gateway.control.demo_ask import Asking
from gateway.control.fleet import Fleet
from gateway.control.nodes import NodeRegistry
from gateway.control.server import ControlServer

__all__ = [
    "Asking",
    "Bus",
    "CacheReport",
    "ControlParts",
    "ControlServer",
    "Dashboard",
    "Fleet",
    "NodeRegistry",
    "build_app",
]
