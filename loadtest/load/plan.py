"""How many users of which kind, for how long, and what of all that is handed to Locust. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

import orjson

VARIABLE: Final = "LOADTEST_LOAD"
"""Environment variable that the driver gives to Locust: a `Site` as JSON. Its secrets live as long as the run."""

NEWS: Final = "news"
"""Published to plainly; everybody but the chatty is subscribed."""
LOG: Final = "log:orders"
"""Published to with history."""
BULK: Final = "bulk:pictures"
"""The same, with publications so large that who does not read them falls behind."""
STREAM: Final = "stream:answer-{number}"
STREAMS: Final = 3
ROOMS: Final = 20
ROOM: Final = "chat:room-{number}"
TOPIC: Final = "topic-{number}"
TOPICS: Final = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """Users by kind. The API's users make `api_requests` each, over about as many seconds."""

    users: Mapping[str, int] = field(
        default_factory=lambda: {
            "Idle": 200,
            "Chatty": 20,
            "SlowReader": 10,
            "Reconnecting": 30,
            "ManyChannels": 20,
            "StreamWatcher": 30,
            "ApiUser": 100,
        }
    )
    seconds: int = 40
    spawn_per_s: int = 100
    processes: int = 1
    api_requests: int = 10
    news_per_s: float = 5.0
    log_per_s: float = 10.0
    bulk_per_s: float = 10.0

    def scaled(self, factor: float) -> Plan:
        """With so many times the users over WebSocket; those of the API are what they are."""
        users = {
            kind: count if kind == "ApiUser" else max(1, round(count * factor)) for kind, count in self.users.items()
        }
        return replace(self, users=users)

    def with_users(self, wanted: Sequence[str]) -> Plan:
        """With other numbers: `Idle=1000`. Raises ValueError for what is no kind and no number."""
        users = dict(self.users)
        for each in wanted:
            kind, _, count = each.partition("=")
            if kind not in users or not count.isdecimal():
                raise ValueError(f"{each} is none of {', '.join(f'{name}=N' for name in users)}")
            users[kind] = int(count)
        if not sum(users.values()):
            raise ValueError("there must be a user at least")
        return replace(self, users=users)

    @property
    def total(self) -> int:
        """All users."""
        return sum(self.users.values())


@dataclass(frozen=True, slots=True)
class Site:
    """Where the gateway is, how to get in, and who comes."""

    host: str
    port: int
    control_port: int
    path: str
    secret: str
    api_key: str
    users: Mapping[str, int]
    api_requests: int
    verdict: str
    """File that the verdict is written to."""
    tolerated: tuple[str, ...] = ()
    """Kinds of requests that are not judged: what the run does to the gateway makes them fail."""

    def as_variable(self) -> str:
        """For the environment."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_environment(cls) -> Site:
        """What the driver has handed on. Raises KeyError when Locust was not started by it."""
        return cls(**orjson.loads(os.environ[VARIABLE]))
