"""Configuration files to start from, one for each purpose: what `config init` writes.

Each template loads without a problem once a secret is set, which a test checks. Secrets are never part of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from gateway.config.schema import env_name

Purpose = Literal["chat", "llm", "notifications"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

_HEAD: Final = """\
# {title}
# Every setting, with its default and meaning: `nexus-gateway config reference`.
# Check this file: `nexus-gateway config check FILE`; with --connect, Redis and everything else is tried as well.
#
# Secrets stay out of it. Set {secret} (at least 32 bytes,
# `openssl rand -hex 32` makes one) and {keys}, or let
# hmac_secret_file and api_keys_file name files that hold them.

[server]
# Pages that may connect. An empty list admits pages from the gateway's own host name only.
allowed_origins = []
# Behind a load balancer, name its networks, so that limits per address see the clients.
# trusted_proxies = ["10.0.0.0/8"]

[auth]
# Set both if the secret, or the key set behind jwks_url, also signs tokens for other applications.
# audience = "realtime"
# issuer = "https://auth.example.com"

[redis]
# Without a URL the gateway starts a private server, which keeps nothing once the gateway stops.
# url = "redis://localhost:6379/0"

[namespaces.default]
# Channels without a namespace.
subscribe_by = "authenticated"
publish_by = "nobody"
"""
_TITLES: Final[Mapping[Purpose, str]] = {
    "chat": "Rooms: clients publish, everybody sees who is there, nobody misses a message.",
    "llm": "Answers of a language model, streamed to the user who asked.",
    "notifications": "Notifications: the backend publishes, to one user or to everyone.",
}
_BODIES: Final[Mapping[Purpose, str]] = {
    "chat": """
[namespaces.chat]
# chat:lobby, chat:42 … A `$` in front of the name (chat:$board) asks for a subscription token.
publish_by = "subscriber"
history_size = 200            # messages kept per room
history_ttl_s = 86400         # for a day
recover = true                # a client that comes back gets what it missed
presence = true               # who is in the room
join_leave = true             # and who comes and goes
delta = true                  # clients that ask for it get differences

[limits]
publishes_per_s = 5           # per connection
publishes_burst = 20
""",
    "llm": """
[streams]
# Token streams: the channel stream:<key> is open to its owner, the user who asked. The backend writes to it with
# gateway.streams. A client that reloads, or comes back, reads on where it was.
enabled = true
lease_s = 10                  # a producer that is silent for so long is given up
text_ttl_s = 3600             # how long a finished answer can be read again

[cache]
# Answers to the same question: see the chapter on the response cache.
# prompt_response_ttl_s = 86400
""",
    "notifications": """
# The channel #42 reaches every connection of user 42 and @all reaches everyone, without a subscription.

[namespaces.news]
# news:orders, news:board … for whoever subscribes.
history_size = 50
history_ttl_s = 604800        # a week
recover = true

[outbox]
# Publish from a database transaction: rows of the table gateway_outbox leave when they are committed.
# url = "postgresql://localhost/app"
""",
}


def template(purpose: Purpose) -> str:
    """A commented TOML document for `purpose`."""
    head = _HEAD.format(
        title=_TITLES[purpose], secret=env_name(("auth", "hmac_secret")), keys=env_name(("control", "api_keys"))
    )
    return head + _BODIES[purpose]
