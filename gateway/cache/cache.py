"""`AsyncCache`: what a backend imports to ask a model once for what is asked often."""

from __future__ import annotations

import os
import random
from types import TracebackType
from typing import NamedTuple, Self

from gateway.breaker import Breaker
from gateway.cache.computed import Compute, Computed
from gateway.cache.computing import Computing
from gateway.cache.context import Context
from gateway.cache.local import LocalCopies
from gateway.cache.options import Options
from gateway.cache.request import Request, digest_of, temperature_of
from gateway.cache.session import TEXT, Session
from gateway.cache.streamed import Answer, Produce
from gateway.cache.streaming import Streaming
from gateway.cache.tallies import KindStatistics, Tallies
from gateway.clock import Clock, SystemClock
from gateway.errors import CacheClosed, CacheInvalid, ConfigError
from gateway.log import get_logger
from gateway.publisher.options import CONNECT_TIMEOUT_S, config_of_gateway, redis_settings
from gateway.storage.pool import PoolStatistics
from gateway.streams.records import new_generation


class CacheStatistics(NamedTuple):
    """What `AsyncCache.stats` says, of this process."""

    kinds: dict[str, KindStatistics]
    local_entries: int
    local_bytes: int
    flights: int
    """Answers that are being produced or followed here."""
    redis_away: bool
    """Whether Redis is not asked at the moment because it has failed too often."""
    redis_failures: int
    """Times that this has begun."""
    pool: PoolStatistics | None
    """None = the cache is not open."""


class _Open(NamedTuple):
    """What an entered cache holds."""

    session: Session
    computing: Computing
    streaming: Streaming


class AsyncCache:
    """The cache of one process and event loop: use it as `async with`. `gateway.cache` says what it does."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "gw",
        options: Options | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`url`: as the gateway's `redis.url`, but no cluster; `prefix` as the gateway has it. Nothing is opened before
        `async with`.

        Raises ConfigError, CacheInvalid.
        """
        self._settings = redis_settings(url, prefix, connect_timeout_s)
        if self._settings.topology == "cluster":
            raise ConfigError(["url: the response cache works with one Redis server or Sentinels, not with a cluster"])
        self._options = options or Options()
        self._options.check()
        self._clock = clock or SystemClock()
        self._tallies = Tallies()
        self._local = LocalCopies(
            self._clock.monotonic,
            max_entries=self._options.local_entries,
            max_bytes=self._options.local_bytes,
            fresh_s=self._options.local_ttl_s,
        )
        rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._context = Context(self._options, self._tallies, self._local, rng)
        self._redis_failures = 0
        self._open: _Open | None = None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """With the gateway's own TOML file at `path` and variables `GATEWAY_…`. Raises ConfigError, CacheInvalid."""
        config = config_of_gateway(path)
        redis = config.redis
        options = Options.of(config)
        return cls(redis.url, prefix=redis.prefix, options=options, connect_timeout_s=redis.connect_timeout_s)

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise CacheClosed("the cache is in use already")
        breaker = Breaker(
            self._clock.monotonic,
            failures=self._options.breaker_failures,
            open_s=self._options.breaker_open_s,
            changed=self._circuit_changed,
        )
        session = await Session.open(
            self._settings, self._options, breaker, self._tallies, lambda: self._redis_failures
        )
        self._open = _Open(session, Computing(self._context, session), Streaming(self._context, session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop what is being produced here (others take over), and close the connections."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.session.aclose()

    def stats(self) -> CacheStatistics:
        """What this process has counted."""
        opened = self._open
        return CacheStatistics(
            kinds={kind: self._tallies.of(kind) for kind in self._options.kinds},
            local_entries=len(self._local),
            local_bytes=self._local.bytes,
            flights=len(opened.computing) + len(opened.streaming) if opened else 0,
            redis_away=opened is not None and opened.session.bus.remote.is_away,
            redis_failures=self._redis_failures,
            pool=opened.session.pool.statistics() if opened else None,
        )

    async def get_or_compute(self, request: Request, compute: Compute) -> Computed:
        """The value for `request`; `compute` runs if nobody in the fleet has it or is at it.

        A value is what msgpack takes, and comes back as that: tuples as lists, and a new object for each caller. One
        that msgpack does not take is given to the callers of this process and not stored. Raises CacheInvalid,
        AnswerFailed, what `compute` raises, CacheClosed.
        """
        opened, digest = self._take(request)
        if self._is_bypassed(request):
            return Computed(await compute(), "bypass")
        return await opened.computing.get(request.kind, digest, compute)

    async def get_or_stream(self, request: Request, produce: Produce, *, owner: str = "") -> Answer:
        """The answer to `request`, which is also the token stream `Answer.channel`; `produce` runs if nobody in the
        fleet has it or is at it.

        `owner`: the user who may subscribe to the stream, and end it for everybody; that of the first call counts.
        Where a tenant has several users, leave it out and give them subscription tokens. Returns as soon as it is
        known where the answer comes from. Raises CacheInvalid, AnswerRefused, CacheClosed; the Answer raises the rest.
        """
        opened, digest = self._take(request)
        if self._is_bypassed(request):
            key = f"{TEXT}{digest[:32]}-{new_generation(self._clock.time())}"
            return await opened.streaming.bypass(key, digest, produce, owner)
        return await opened.streaming.get(request.kind, digest, produce, owner)

    def _take(self, request: Request) -> tuple[_Open, str]:
        if self._open is None:
            raise CacheClosed("use the cache inside `async with`")
        digest = digest_of(request, self._options.defaults)
        if request.kind not in self._options.kinds:
            raise CacheInvalid("kind", f'"{request.kind}" is none of {", ".join(self._options.kinds)}')
        return self._open, digest

    def _is_bypassed(self, request: Request) -> bool:
        sampled = temperature_of(request, self._options.defaults) > 0
        bypassed = sampled and not self._options.kinds[request.kind].keep_sampled
        self._tallies.add(request.kind, "bypasses", bypassed)
        return bypassed

    def _circuit_changed(self, is_open: bool) -> None:
        self._redis_failures += is_open
        log = get_logger()
        if is_open:
            log.warning("redis is away: answers come from memory, or are produced")
        else:
            log.info("redis is back")
