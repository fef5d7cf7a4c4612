"""What Locust's users need of a gateway, and how its address gets to them. Without importing Locust."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from loadtest.load.plan import Plan, Site
from loadtest.scale.site import Site as Gateway

CONFIG: Final = """\
[namespaces.chat]
publish_by = "subscriber"
presence = true
[namespaces.log]
history_size = 5000
history_ttl_s = 600
recover = true
[namespaces.bulk]
history_size = 200
history_ttl_s = 600
recover = true
[delivery]
send_budget_bytes = 262144
[streams]
enabled = true
[[control.keys]]
name = "load"
key = "{api_key}"
"""


def api_key() -> str:
    """A key of the server API for one run."""
    return secrets.token_hex(16)


def site_of(gateway: Gateway, key: str, plan: Plan, folder: Path, tolerated: tuple[str, ...] = ()) -> Site:
    """Where the users go."""
    return Site(
        host=gateway.target["host"],
        port=gateway.target["port"],
        control_port=gateway.server.control_port,
        path=gateway.target["path"],
        secret=gateway.target["secret"],
        api_key=key,
        users=plan.users,
        api_requests=plan.api_requests,
        verdict=str(folder / "verdict.json"),
        tolerated=tolerated,
    )
