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
from loadtest.load.plan import BULK, LOG, NEWS, STREAM, STREAMS, Plan
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
BULK_HISTORY_SIZE: Final = 200
BULK_BYTES: Final = 65_536
"""Ten a second overrun what kernel and gateway keep for a client that does not read for some seconds."""
TOKENS: Final = 100
TOKEN_S: Final = 0.05
BETWEEN_S: Final = 0.5
"""Pause between a stream's end and its next generation."""
LIFE_MS: Final = 600_000
LEASE_MS: Final = 30_000
STREAM_BYTES: Final = 1_000_000


class Traffic:
    """Publishes from `start` to `stop`."""

    def __init__(self, redis_path: str, prefix: str, plan: Plan) -> None:
        """`prefix` is the gateway's, in Redis. Nothing is connected yet."""
        self._path = redis_path
        self._prefix = prefix
        self._plan = plan
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
        if self._plan.users.get("SlowReader"):
            work.append(lambda redis: self._publish_bulk(redis, publish))
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
        while not self._ended.wait(1 / self._plan.news_per_s):
            redis.publish(channel, message(time.monotonic_ns(), self.news, 0))
            self.news += 1

    def _publish_log(self, redis: Redis, source: str) -> None:
        publish = self._with_history(redis, source, LOG, HISTORY_SIZE)
        while not self._ended.wait(1 / self._plan.log_per_s):
            publish(message(time.monotonic_ns(), self.logged, 1))
            self.logged += 1

    def _publish_bulk(self, redis: Redis, source: str) -> None:
        publish = self._with_history(redis, source, BULK, BULK_HISTORY_SIZE)
        while not self._ended.wait(1 / self._plan.bulk_per_s):
            publish(b'"%b"' % (b"x" * BULK_BYTES))

    def _with_history(self, redis: Redis, source: str, channel: str, size: int) -> Callable[[bytes], None]:
        script = redis.register_script(source)
        keys = [log_key(self._prefix, channel), meta_key(self._prefix, channel)]
        name = publish_channel(self._prefix, channel)

        def publish(data: bytes) -> None:
            script(keys, [name, data, "-", size, LIFE_MS, LIFE_MS, secrets.token_hex(6), LIFE_MS, 0, ""])

        return publish

    def _produce(self, redis: Redis, source: str, number: str) -> None:
        """One generation after another: every text says its place."""
        script = redis.register_script(source)
        channel = STREAM.format(number=number)
        key = channel.partition(":")[2]
        keys = [stream_key(self._prefix, key), stream_parts_key(self._prefix, key), stream_text_key(self._prefix, key)]
        keys += [log_key(self._prefix, channel), meta_key(self._prefix, channel), streams_key(self._prefix, key)]

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
