"""nexus-gateway: holds the WebSocket connections of a fleet and fans Redis channels out to them.

The rooms of this package are layered: a room imports only rooms in lower rows, and `tests/test_architecture.py` asserts
it.
"""

__version__ = "0.1.0"
