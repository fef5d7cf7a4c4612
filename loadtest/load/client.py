"""One client of the gateway under gevent: a greenlet reads, calls wait for their replies, pushes go to a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import orjson
from gevent.event import AsyncResult, Event

from loadtest.load.wire import Wire, WireError

REPLY_S: Final = 10.0

Push = Callable[[str, dict[str, Any]], None]
"""Called with the channel and the push (`pub`, `unsubscribe` …). Runs in the reading greenlet: it must not wait."""


class Refused(Exception):
    """The gateway answered a command with an error, or not in time."""


class Client:
    """One connection. `connect` first, `close` at the end."""

    def __init__(self, wire: Wire, on_push: Push) -> None:
        self._wire = wire
        self._on_push = on_push
        self._numbers = 0
        self._waiting: dict[int, AsyncResult] = {}
        self._reader: gevent.Greenlet | None = None
        self._first: dict[int, tuple[str, Callable[[dict[str, Any]], None]]] = {}
        self._awake = Event()
        self._closing = False
        self.lost: WireError | None = None
        """Why the connection has ended, if this side did not end it."""

    def connect(self, token: str) -> None:
        """Open it and introduce this client. Raises WireError, Refused."""
        self._awake.set()
        self._wire.open()
        self._reader = gevent.spawn(self._read)
        self.call("connect", {"token": token})

    def call(
        self, command: str, request: Mapping[str, Any], on_result: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Send a command, wait for its result. Raises WireError, Refused.

        `on_result` gets it before any push that comes after it: a caller that waits does not.
        """
        if on_result is not None:
            self._first[self._numbers + 1] = (command, on_result)
        try:
            return self.call_all([(command, request)])[0]
        finally:
            self._first.clear()

    def call_all(self, commands: list[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Several commands in one message; their results in order. Raises WireError, Refused."""
        if self.lost is not None:
            raise self.lost
        results, documents = [], []
        for command, request in commands:
            self._numbers += 1
            results.append((self._numbers, command, AsyncResult()))
            self._waiting[self._numbers] = results[-1][2]
            documents.append(orjson.dumps({"id": self._numbers, command: request}))
        try:
            self._wire.send(b"\n".join(documents))
            until = time.monotonic() + REPLY_S
            found = []
            for _, command, result in results:
                reply = result.get(timeout=max(0.0, until - time.monotonic()))
                if "error" in reply:
                    raise Refused(f"{command}: {reply['error'].get('code')} {reply['error'].get('message', '')}")
                found.append(reply[command])
        except gevent.Timeout as error:
            raise Refused(f"{commands[0][0]}: no reply within {REPLY_S:g} s") from error
        else:
            return found
        finally:
            for number, _, _ in results:
                self._waiting.pop(number, None)

    def fall_asleep(self) -> None:
        """Stop reading, after what is being read."""
        self._awake.clear()

    def wake_up(self) -> None:
        """Go on reading."""
        self._awake.set()

    def close(self) -> None:
        """End the connection and the greenlet."""
        self._closing = True
        self._awake.set()
        self._wire.close()
        if self._reader is not None:
            self._reader.kill()

    def _read(self) -> None:
        try:
            while True:
                self._awake.wait()
                for document in self._wire.receive():
                    self._take(orjson.loads(document))
        except (WireError, ValueError) as error:
            if self._closing:
                return
            self.lost = error if isinstance(error, WireError) else WireError(f"what was received is no JSON: {error}")
            for result in list(self._waiting.values()):
                result.set_exception(self.lost)

    def _take(self, reply: dict[str, Any]) -> None:
        number = reply.get("id")
        if number:
            if number in self._first and "error" not in reply:
                command, on_result = self._first.pop(number)
                on_result(reply[command])
            result = self._waiting.get(number)
            if result is not None:
                result.set(reply)
        elif "push" in reply:
            self._on_push(reply["push"].get("channel", ""), reply["push"])
