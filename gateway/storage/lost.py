"""A connection that is lost just before redis-py writes to it is an error of the connection, whatever it raises."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Iterator

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError


@contextlib.contextmanager
def lost_is_said() -> Iterator[None]:
    """Around a call of redis-py. Raises its ConnectionError for what it lets through when the connection went between
    the look at it and the write: the RuntimeError of a closed transport (uvloop), or an AttributeError (no writer)."""
    try:
        yield
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise RedisConnectionError("the connection was closed") from error
    except AttributeError as error:
        if error.obj is not None:
            raise
        raise RedisConnectionError("the connection was closed") from error


async def closed(closing: Awaitable[None]) -> None:
    """Have redis-py close a client or a pool. What it raises is of no interest to anybody any more: that the other end
    was gone, or that the loop had no time to see the end of a socket, which is closed all the same."""
    with contextlib.suppress(RedisError, OSError):
        await closing
