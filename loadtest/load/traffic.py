"""What is published while users are there: plain messages, messages with history, token streams. Each in a thread."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from loadtest.bench.errors import BenchError
from loadtest.bench.messages import message
from loadtest.bench.processes import REPOSITORY
from loadtest.faults.publisher import SCRIPT
from loadtest.load.orders import text_of
from loadtest.load.plan import LOG, NEWS, STREAM, STREAMS
from protocol.redis_contract import (
    log_key,
    meta_key,
    publish_channel,
    stream_key,
    stream_parts_key,
    stream_text_key,
    streams_key,
)

STREAM_SCRIPT: Final = REPOSITORY / "gateway" / "broker" / "lua" / "stream.lua"
HISTORY_SIZE: Final = 5000
TOKENS: Final = 100
TOKEN_S: Final = 0.05
BETWEEN_S: Final = 0.5
"""Pause between a stream's end and its next generation."""
LIFE_MS: Final = 600_000
LEASE_MS: Final = 30_000
STREAM_BYTES: Final = 1_000_000


class Traffic:
    """Publishes from `start` to `stop`."""

    def __init__(self, redis_path: str, prefix: str, news_per_s: float, log_per_s: float) -> None:
        """`prefix` is the gateway's, in Redis. Nothing is connected yet."""
        self._path = redis_path
        self._prefix = prefix
        self._news_per_s, self._log_per_s = news_per_s, log_per_s
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed = ""
        self.news = 0
        self.logged = 0

    def start(self) -> None:
        """Begin. Raises BenchError when a script is not there."""
        try:
            publish, stream = SCRIPT.read_text(), STREAM_SCRIPT.read_text()
        except OSError as error:
            raise BenchError(f"a script of the publish contract cannot be read: {error}") from error
        work: list[Callable[[Redis], None]] = [self._publish_news, lambda redis: self._publish_log(redis, publish)]
        work += [
            lambda redis, number=number: self._produce(redis, stream, str(number))  # type: ignore[misc]
            for number in range(STREAMS)
        ]
        for one in work:
            self._threads.append(threading.Thread(target=self._run, args=(one,), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """End it. Raises BenchError when a publisher has failed."""
        self._ended.set()
        for thread in self._threads:
            thread.join(10.0)
        if self._failed:
            raise BenchError(f"a publisher failed: {self._failed}")

    def _run(self, work: Callable[[Redis], None]) -> None:
        with Redis(unix_socket_path=self._path) as redis:
            try:
                work(redis)
            except (RedisError, OSError) as error:
                self._failed = str(error)

    def _publish_news(self, redis: Redis) -> None:
        channel = publish_channel(self._prefix, NEWS)
        while not self._ended.wait(1 / self._news_per_s):
            redis.publish(channel, message(time.monotonic_ns(), self.news, 0))
            self.news += 1

    def _publish_log(self, redis: Redis, source: str) -> None:
        script = redis.register_script(source)
        keys = [log_key(self._prefix, LOG), meta_key(self._prefix, LOG)]
        channel = publish_channel(self._prefix, LOG)
        while not self._ended.wait(1 / self._log_per_s):
            data = message(time.monotonic_ns(), self.logged, 1)
            epoch = secrets.token_hex(6)
            script(keys, [channel, data, "-", HISTORY_SIZE, LIFE_MS, LIFE_MS, epoch, LIFE_MS, 0, ""])
            self.logged += 1

    def _produce(self, redis: Redis, source: str, number: str) -> None:
        """One generation after another: every text says its place."""
        script = redis.register_script(source)
        channel = STREAM.format(number=number)
        key = channel.partition(":")[2]
        keys = [stream_key(self._prefix, key), stream_parts_key(self._prefix, key), stream_text_key(self._prefix, key)]
        keys += [log_key(self._prefix, channel), meta_key(self._prefix, channel), streams_key(self._prefix)]

        def run(operation: str, *arguments: Any) -> None:
            outcome = script(keys, [operation, key, publish_channel(self._prefix, channel), generation, *arguments])
            if outcome[0] != b"ok":
                raise RedisError(f"{operation} of a token stream was answered with {outcome}")

        while not self._ended.is_set():
            generation = secrets.token_hex(12)
            run("open", "", LEASE_MS, LIFE_MS, LIFE_MS + LEASE_MS, STREAM_BYTES, "new")
            for index, text in enumerate(text_of(TOKENS)):
                self._ended.wait(TOKEN_S)
                run("append", index + 2, text)
            run("end", "finished", "{}", TOKENS + 1)
            self._ended.wait(BETWEEN_S)
