"""A load generator: one process, the clients and the publisher of one server.

Started by the driver with `python -m loadtest.bench.generator`; reads one JSON command a line on its standard input,
answers with one JSON line each, and sends `{"progress": n}` lines meanwhile. Ends when its input does, so that it never
outlives the driver. Between commands it goes on reading its connections: pings are answered however long others are
being measured.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import resource
import sys
import time
from typing import Any

import orjson

from loadtest.bench.clients import GROUPS, Clients
from loadtest.bench.dialects import dialect
from loadtest.bench.opening import open_connections
from loadtest.bench.publishing import WIDE, Publishing, PublishingError, what_went_wrong
from loadtest.bench.sources import HttpSource, LineSource, RedisSource, Source, SourceError
from loadtest.bench.stalling import Stalling

STDIN, STDOUT = 0, 1


class Generator:
    """Carries out commands. `target` is what `setup` said: where the server is and how it is spoken to."""

    def __init__(self) -> None:
        self._clients = Clients()
        self._target: dict[str, Any] = {}
        self._source: Source | None = None
        self._sizes = dict.fromkeys(range(GROUPS), 0)
        self._publishing: Publishing | None = None
        self._users = 0
        self._input = b""
        self._lines: list[bytes] = []
        self._ended = False

    def run(self) -> None:
        """Serve commands until the input ends."""
        os.set_blocking(STDIN, False)
        self._clients.watch(STDIN, self._read_commands)
        while not self._ended or self._lines:
            while self._lines:
                self._answer(self._lines.pop(0))
            if not self._ended:
                self._clients.step(5.0)

    def _read_commands(self, _events: int) -> None:
        data = os.read(STDIN, 65_536)
        if not data:
            self._ended = True
        *lines, self._input = (self._input + data).split(b"\n")
        self._lines.extend(lines)

    def _answer(self, line: bytes) -> None:
        command = orjson.loads(line)
        try:
            result = getattr(self, "do_" + command.pop("do"))(**command)
        except (PublishingError, SourceError, ValueError, OSError) as error:
            result = {"error": str(error)}
        _write(result)

    def do_setup(self, **target: Any) -> dict[str, Any]:
        """`host`, `port`, `path`; `source` (`redis`, `lines` or `http`), `source_path`, `channels` by group as the
        publisher names them; `dialect`; for one that connects and subscribes `secret` and `subscriptions` by group."""
        self._target = target
        return {}

    def do_open(self, count: int, in_flight: int, group: int = 0, receive_bytes: int = 0) -> dict[str, Any]:
        """Open `count` more connections in `group`. Tokens are signed before the clock starts. See `open_connections`
        for `receive_bytes`."""
        hellos = self._hellos(count, group)
        destination = (self._target["host"], self._target["port"])
        next_sequence = self._publishing.next_sequence(group) if self._publishing else 0
        gc.freeze()
        opened = open_connections(
            self._clients,
            destination,
            self._target["path"],
            hellos,
            dialect(self._target["dialect"]),
            in_flight,
            next_sequence,
            lambda done: _write({"progress": done}),
            receive_bytes=receive_bytes,
        )
        self._sizes[group] += opened.connections
        gc.freeze()
        return dataclasses.asdict(opened)

    def do_cost(self, **plan: Any) -> dict[str, Any]:
        """CPU per delivery. See `Publishing.measure_cost`."""
        return dataclasses.asdict(self._publish().measure_cost(**plan))

    def do_latency(self, messages: int, times: int, per_s: float) -> dict[str, Any]:
        """Publish → receive at a fixed rate."""
        return dataclasses.asdict(self._publish().measure_latency(messages, times, per_s))

    def do_interference(self, quiet_interval_s: float, duration_s: float) -> dict[str, Any]:
        """Publish → receive on the quiet channel while the wide one is busy."""
        return dataclasses.asdict(self._publish().measure_interference(quiet_interval_s, duration_s))

    def do_flow(self, messages: int, a_pass: int, message_bytes: int) -> dict[str, Any]:
        """Messages to all as fast as they are received: how many a second."""
        stalling = Stalling(self._clients, self._publish(), self._sizes, [])
        per_s, _, blocked = stalling.flow(messages, a_pass, message_bytes)
        return {"error": "not everybody was served in time"} if blocked else {"per_s": per_s}

    def do_stalled(self, pids: list[int], **plan: Any) -> dict[str, Any]:
        """Messages while some connections do not read. See `Stalling`."""
        return dataclasses.asdict(Stalling(self._clients, self._publish(), self._sizes, pids).measure(**plan))

    def do_settle(self, duration_s: float) -> dict[str, Any]:
        """Read for a while, publish nothing. Tells how many connections are left and what went wrong."""
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            self._clients.step(left_s)
        return {"connections": len(self._clients), "wrong": what_went_wrong(self._clients)}

    def do_close(self) -> dict[str, Any]:
        """Reset all connections and start anew: sequences begin at 0 with the next `open`."""
        closed = self._clients.close()
        self._sizes = dict.fromkeys(range(GROUPS), 0)
        self._publishing = None
        return {"closed": closed}

    def do_shrink(self, keep: int) -> dict[str, Any]:
        """Reset all connections but the `keep` oldest, which are all in the first group."""
        closed = self._clients.close(keep)
        self._sizes[WIDE] = len(self._clients)
        return {"closed": closed}

    def _publish(self) -> Publishing:
        if self._source is None:
            self._source = self._connect_source()
            self._clients.watch(self._source.fileno(), self._read_source)
        if self._publishing is None:
            self._publishing = Publishing(self._clients, self._source, self._sizes)
        return self._publishing

    def _connect_source(self) -> Source:
        if self._target["source"] == "redis":
            return RedisSource(self._target["source_path"], self._target["channels"])
        if self._target["source"] == "http":
            here = (self._target["host"], self._target["port"])
            return HttpSource(here, self._target["source_path"], self._target["channels"], self._target["api_key"])
        return LineSource(self._target["source_path"])

    def _read_source(self, _events: int) -> None:
        source = self._source
        if source is None:
            return
        source.read_answers()
        if isinstance(source, HttpSource) and source.ended:
            self._clients.unwatch(source.fileno())
            source.reconnect()
            self._clients.watch(source.fileno(), self._read_source)

    def _hellos(self, count: int, group: int) -> list[bytes]:
        """One frame a client, each for a user of its own."""
        users = range(self._users + 1, self._users + count + 1)
        self._users += count
        channel = self._target["subscriptions"][group] if self._target["subscriptions"] else ""
        speaks = dialect(self._target["dialect"])
        return speaks.hellos(users, channel, self._target["secret"], int(time.time()))


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as it goes. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _write(answer: dict[str, Any]) -> None:
    os.write(STDOUT, orjson.dumps(answer) + b"\n")


def main(generator: Generator) -> int:
    """Serve until the driver ends it. Returns the exit code."""
    raise_file_limit()
    gc.disable()
    try:
        generator.run()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Generator()))
