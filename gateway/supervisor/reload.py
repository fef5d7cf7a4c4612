"""What a reload may change, and what it says. The roll itself is the supervisor's.

Everything may change except what all workers must agree on at every moment, or what was handed out when the gateway
started: addresses and ports, whose Redis it is, and more workers than there is room for in the counter table. Another
external Redis is allowed, because that is how its password is changed; when it is really another server, clients of old
and new workers do not hear each other until the roll is over.
"""

from __future__ import annotations

from gateway.config import Config


def unchangeable(old: Config, new: Config, capacity: int) -> list[str]:
    """Why `new` needs a restart, one sentence for each setting; empty = it does not."""
    found = []
    for section, key in (("server", "host"), ("server", "port"), ("control", "host"), ("control", "port")):
        before, after = (getattr(getattr(config, section), key) for config in (old, new))
        if before != after:
            found.append(f"[{section}] {key} needs a restart: it is {before!r}, the new configuration says {after!r}")
    if bool(old.redis.url) != bool(new.redis.url):
        one, other = ("embedded", "external") if new.redis.url else ("external", "embedded")
        found.append(f"[redis] url needs a restart: Redis is {one}, the new configuration says {other}")
    if new.server.workers > capacity:
        found.append(
            f"[server] workers needs a restart: there is room for {capacity}, "
            f"the new configuration says {new.server.workers}"
        )
    return found
