"""The wire contracts of nexus-gateway, on their own: what clients speak, and what backends write to Redis.

This package imports nothing of `gateway`, opens nothing and keeps no state, so that clients, load generators and tests
can use it. `commands` and `replies` are the message model, `encodings` turns it into bytes, `codes` is the one table of
error and close codes, `channel` the grammar of channel names, `position` a place in a channel's log, `redis_contract`
the names and envelopes in Redis.
"""

from typing import Final

WEBSOCKET_PATH: Final = "/connection/websocket"
"""Where clients open their WebSocket on the public port."""
