"""Users of the server API: a backend's calls, over HTTP. Importing this imports Locust; see `users`."""

from __future__ import annotations

import random
from typing import Any

from locust import FastHttpUser, between, task
from locust.exception import StopUser

from loadtest.load.plan import LOG, ROOM, ROOMS, Site


class ApiUser(FastHttpUser):
    """Makes its requests, about one a second, and is done. All of them count as one kind, `API`."""

    wait_time = between(0.5, 1.5)
    network_timeout = 10.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Where to go."""
        self.site = Site.from_environment()
        self.left = self.site.api_requests

    @task
    def call(self) -> None:
        """One request, of the kinds in turns."""
        if not self.left:
            raise StopUser
        self.left -= 1
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("publish", {"channel": ROOM.format(number=random.randrange(ROOMS)), "data": {"from": "backend"}}),
            ("broadcast", {"channels": [ROOM.format(number=n) for n in range(5)], "data": {"from": "backend"}}),
            ("history", {"channel": LOG, "limit": 10}),
            ("presence_stats", {"channel": ROOM.format(number=random.randrange(ROOMS))}),
            ("info", {}),
        ]
        method, request = kinds[self.left % len(kinds)]
        with self.client.post(
            f"/api/{method}",
            name="API",
            json=request,
            headers={"X-API-Key": self.site.api_key},
            catch_response=True,
        ) as answer:
            if answer.status_code == 200 and "error" in answer.json():
                answer.failure(f"{method}: {answer.json()['error']}")
