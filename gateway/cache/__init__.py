"""A response cache for backends that ask language models: the same request costs once, for the whole fleet.

    async with AsyncCache("redis://localhost") as cache:           # or AsyncCache.from_config("gateway.toml")
        request = Request(
            kind="prompt_response", tenant="acme", provider="openai", model="small-1",
            parameters={"temperature": 0}, messages=[{"role": "user", "content": "Why is the sky blue?"}],
        )

        async def produce(draft):                                   # runs only when nobody has the answer
            async for token in model.stream(...):
                await draft.append(token)
            return {"tokens": 812}                                  # usage: any JSON, or None

        answer = await cache.get_or_stream(request, produce, owner="42")
        answer.channel      # "stream:cache-…": what clients subscribe to (its owner, or with a subscription token)
        answer.level        # "produced", "redis", "local", "coalesced", "stale", "bypass"
        async for text in answer: ...                               # or: text = await answer.text()

        found = await cache.get_or_compute(request, compute)        # `async def compute() -> value` (msgpack)
        found.value, found.level, found.stale

The answer of `get_or_stream` is a token stream of `gateway.streams`. The first caller of the fleet produces, in a task
of its own that goes on when the caller leaves; all others attach to the live stream, and a later caller gets the stream
that has ended: clients cannot tell, except that it is fast. A producer that dies is replaced by one of those who wait.

What may be raised: CacheInvalid (the request cannot be a key; names the place), AnswerFailed (the producer failed,
here or elsewhere), AnswerRefused (it will fail so every time: raise it in `produce` and it is kept for a short time),
AnswerRestarted (a new producer says something else than what was handed on already; `text()` never raises it),
StreamCancelled (its owner wants it no more), and whatever `produce` raises, for callers in the same process. Redis
never makes a request fail: after a budget of 100 ms the answer is produced, or taken from a bounded local copy.

The rules that are easiest to break: the tenant is part of every key, and only whole, successful answers are kept.
"""

from gateway.cache.cache import AsyncCache, CacheStatistics
from gateway.cache.computed import Computed
from gateway.cache.options import Kind, Options
from gateway.cache.request import Request
from gateway.cache.streamed import Answer, Draft
from gateway.cache.tallies import KindStatistics
from gateway.errors import (
    AnswerFailed,
    AnswerRefused,
    AnswerRestarted,
    CacheClosed,
    CacheError,
    CacheInvalid,
    StreamCancelled,
)

__all__ = [
    "Answer",
    "AnswerFailed",
    "AnswerRefused",
    "AnswerRestarted",
    "AsyncCache",
    "CacheClosed",
    "CacheError",
    "CacheInvalid",
    "CacheStatistics",
    "Computed",
    "Draft",
    "Kind",
    "KindStatistics",
    "Options",
    "Request",
    "StreamCancelled",
]
