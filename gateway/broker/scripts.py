"""Lua scripts, shipped beside this module: sent by their digest, and as a whole when Redis does not know them (yet).

redis-py's own script support loads on a separate connection and cannot be used for commands that are queued.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from typing import Any, Final, TypeVar

from gateway.broker.commands import Argument, CommandQueue, Growing, ScriptUnknown
from gateway.errors import BrokerError
from gateway.tasks import fail

T = TypeVar("T")

LIBRARY: Final = "gw"
"""Name of the function library that `publish_function` makes."""


def source(name: str) -> str:
    """The text of `lua/<name>.lua`."""
    return resources.files("gateway.broker").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def publish_function() -> str:
    """The library for `FUNCTION LOAD` (Redis 7 and newer) with the functions `gw_publish` and `gw_stream`."""
    functions = [
        f"redis.register_function('gw_{name}', function(KEYS, ARGV)\n{source(name)}\nend)\n"
        for name in ("publish", "stream")
    ]
    return f"#!lua name={LIBRARY}\n" + "".join(functions)


class Script:
    """One script of this package."""

    def __init__(self, name: str) -> None:
        """`name` of a file in `lua`."""
        self.source = source(name)
        self.digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def submit(
        self, commands: CommandQueue, keys: Sequence[Argument], arguments: Sequence[Argument], *, size: int = 0
    ) -> asyncio.Future[Any]:
        """Queue one run of the script. Raises and gives what `CommandQueue.submit` does."""
        tail = (len(keys), *keys, *arguments)
        first = commands.submit("EVALSHA", self.digest, *tail, size=size)
        return self._or_again(commands, first, lambda: tail, lambda: size)

    def submit_growing(self, commands: CommandQueue, command: Growing) -> asyncio.Future[Any]:
        """Queue one run of the script: `command` is the whole EVALSHA. Raises and gives what `submit` does."""
        first = commands.submit_growing(command)
        return self._or_again(commands, first, lambda: command.arguments()[2:], lambda: command.size)

    def _or_again(
        self,
        commands: CommandQueue,
        first: asyncio.Future[Any],
        tail: Callable[[], tuple[Argument, ...]],
        size: Callable[[], int],
    ) -> asyncio.Future[Any]:
        """The answer; with the source, if Redis does not know the digest."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        first.add_done_callback(partial(self._answered, commands, tail, size, done))
        return done

    def _answered(
        self,
        commands: CommandQueue,
        tail: Callable[[], tuple[Argument, ...]],
        size: Callable[[], int],
        done: asyncio.Future[Any],
        first: asyncio.Future[Any],
    ) -> None:
        error = None if first.cancelled() else first.exception()
        if isinstance(error, ScriptUnknown):
            # Nothing was done. The source goes along once more, in its turn behind what was queued meanwhile.
            try:
                again = commands.submit("EVAL", self.source, *tail(), size=size())
            except BrokerError as busy:
                fail(done, busy)
            else:
                again.add_done_callback(partial(_hand_on, done))
        else:
            _hand_on(done, first)


def converted(answer: asyncio.Future[Any], convert: Callable[[Any], T]) -> asyncio.Future[T]:
    """A future with what `convert` makes of the answer."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    answer.add_done_callback(partial(_convert, done, convert))
    return done


def _convert(done: asyncio.Future[T], convert: Callable[[Any], T], answer: asyncio.Future[Any]) -> None:
    if done.done():
        return
    if answer.cancelled():
        done.cancel()
    elif (error := answer.exception()) is not None:
        fail(done, error)
    else:
        try:
            done.set_result(convert(answer.result()))
        except Exception as unexpected:  # noqa: BLE001 - whoever waits must learn of it
            fail(done, unexpected)


def _hand_on(done: asyncio.Future[Any], answer: asyncio.Future[Any]) -> None:
    if done.done():
        return
    if answer.cancelled():
        done.cancel()
    elif (error := answer.exception()) is not None:
        fail(done, error)
    else:
        done.set_result(answer.result())
