"""A gateway for the official SDKs, and the JavaScript one under remote control."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway, serving
from tests.support.lines import Lines
from tests.support.requirements import SDK_TESTS, require_javascript_sdk
from tests.support.waiting import DEADLINE_S

Event = dict[str, Any]
PING_S = 1.5


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = {
        "auth": {"leeway_s": 0},
        "keepalive": {"ping_interval_s": PING_S, "pong_timeout_s": PING_S - 0.1},
        "namespaces": {
            "default": {},
            "chat": {"publish_by": "subscriber"},
            "closed": {"subscribe_by": "nobody"},
        },
    }
    with serving(config) as gateway:
        gateway.allowed_errors = {"worker ended"}
        yield gateway


class JavaScript:
    """Node.js with the SDK. What it reports is kept, in order."""

    def __init__(self, node: str) -> None:
        self.process = subprocess.Popen(
            [node, str(SDK_TESTS / "remote.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self._lines = Lines(self.process.stdout)
        self._calls = 0

    def do(self, op: str, client: str = "", **arguments: Any) -> Event:
        """Call a method of the SDK and wait until its promise is settled."""
        return self.wait_call(self.begin(op, client, **arguments))

    def begin(self, op: str, client: str = "", **arguments: Any) -> int:
        """Call a method of the SDK; a number for `wait_call`."""
        assert self.process.stdin is not None
        self._calls += 1
        command = {"op": op, "call": self._calls, "client": client} | arguments
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._calls

    def wait_call(self, call: int) -> Event:
        """`{"done": …}` or `{"failed": …, "code": …}`."""
        (event,) = self._lines.wait_for(
            lambda: [event for event in self.events() if call in (event.get("done"), event.get("failed"))],
            f"the end of call {call}",
        )
        return event

    def create(self, client: str, url: str, **arguments: Any) -> None:
        """A client, not yet connected."""
        assert "done" in self.do("create", client, url=url, **arguments)

    def events(self, client: str = "", event: str = "", **fields: Any) -> list[Event]:
        """What was reported so far. A client's own events have no `channel`, or that of a server-side subscription."""
        wanted = {name: value for name, value in {"client": client, "event": event}.items() if value} | fields
        seen = [json.loads(line) for line in self._lines.seen]
        return [each for each in seen if all(each.get(name) == value for name, value in wanted.items())]

    def wait(self, client: str, event: str, count: int = 1, **fields: Any) -> list[Event]:
        """Wait until there are `count` of these events; all of them."""
        self._lines.wait_for(
            lambda: len(self.events(client, event, **fields)) >= count, f"{count} × {event} of {client} {fields or ''}"
        )
        return self.events(client, event, **fields)

    def close(self) -> None:
        """End of the input: the script disconnects everybody and ends by itself."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            assert self.process.wait(DEADLINE_S) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self._lines.join()


@pytest.fixture
def js() -> Iterator[JavaScript]:
    javascript = JavaScript(require_javascript_sdk())
    yield javascript
    javascript.close()
