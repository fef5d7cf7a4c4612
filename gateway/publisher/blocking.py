"""`Publisher`: `AsyncPublisher` for threads, scripts and frameworks without asyncio.

An event loop in a thread of its own does the work; it starts with the first publication. Each process has its own, by
process id, so a publisher that is made before a fork (gunicorn with `preload_app`) works after it. What came along
from the parent is left untouched: closing it would take the parent's connection out of the epoll set that both share.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import UNSET, UnsetType

from gateway.errors import PublisherClosed
from gateway.publisher.asynchronous import AsyncPublisher
from gateway.publisher.messages import History, Message
from gateway.publisher.options import (
    CHANNEL_LENGTH,
    CONNECT_TIMEOUT_S,
    MAX_BYTES,
    RETRY_FOR_S,
    options_of_gateway,
)
from protocol.position import Position

T = TypeVar("T")


class Publisher:
    """Publishes to the gateway's channels. Any number of threads may use it; it opens nothing before the first call.

    Guarantees, arguments and errors as those of `AsyncPublisher`. Calls wait; a script that ends without `close`
    loses nothing that a call has returned from. Not for coroutines: a call stops their event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "gw",
        namespaces: Mapping[str, History | None] | None = None,
        retry_for_s: float = RETRY_FOR_S,
        max_bytes: int = MAX_BYTES,
        channel_length: int = CHANNEL_LENGTH,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """As `AsyncPublisher`. Raises ConfigError."""
        self._make = partial(
            AsyncPublisher,
            url,
            prefix=prefix,
            namespaces=namespaces,
            retry_for_s=retry_for_s,
            max_bytes=max_bytes,
            channel_length=channel_length,
            connect_timeout_s=connect_timeout_s,
        )
        self._make()  # for its errors
        self._threads: dict[int, _Thread] = {}

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, *, retry_for_s: float = RETRY_FOR_S) -> Self:
        """With the gateway's own TOML file at `path` and variables `GATEWAY_…`. Raises ConfigError."""
        return cls(**options_of_gateway(path), retry_for_s=retry_for_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what other threads have under way, and end this process's thread. Final."""
        self._thread().close()

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        version: int = 0,
        version_epoch: str = "",
        history: History | UnsetType | None = UNSET,
    ) -> Position | None:
        """Publish `data`, as `AsyncPublisher.publish`; returns when Redis has it."""
        return self._thread().call(
            lambda publisher: publisher.publish(
                channel,
                data,
                tags=tags,
                key=key,
                version=version,
                version_epoch=version_epoch,
                history=history,
            )
        )

    def publish_many(self, messages: Iterable[Message]) -> list[Position | None]:
        """Publish all of `messages`, as `AsyncPublisher.publish_many`: much faster than one by one."""
        given = list(messages)
        return self._thread().call(lambda publisher: publisher.publish_many(given))

    def _thread(self) -> _Thread:
        """This process's. No lock here: one that a fork finds taken would never be free again."""
        pid = os.getpid()
        return self._threads.get(pid) or self._threads.setdefault(pid, _Thread(self._make()))


class _Thread:
    """A thread with an event loop and an entered publisher in it."""

    def __init__(self, publisher: AsyncPublisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._calls: set[Future[Any]] = set()

    def call(self, work: Callable[[AsyncPublisher], Coroutine[Any, Any, T]]) -> T:
        """Run `work` over there and wait for it; an interrupt (Ctrl-C) cancels it."""
        with self._lock:
            if self._closed:
                raise PublisherClosed("the publisher is closed")
            if self._loop is None:
                self._loop = self._start()
            future = asyncio.run_coroutine_threadsafe(work(self._publisher), self._loop)
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            wait(tuple(self._calls))
            loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="gateway-publisher", daemon=True)
        self._thread.start()
        return started.result()

    def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        async def serve() -> None:
            async with self._publisher:
                started.set_result(asyncio.get_running_loop())
                await self._stop.wait()

        # Not the loop of the policy: an application's uvloop does not survive a fork.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            try:
                runner.run(serve())
            except BaseException as error:
                if not started.done():
                    started.set_exception(error)
                raise
