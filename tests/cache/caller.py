"""A process with a cache of its own, for tests: asks many times at once, and says a line for each thing that happens.

caller.py <url> stream|compute <callers> finish|hang
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from gateway.cache import AsyncCache, Draft, Options, Request
from tests.support.waiting import wait_until

OPTIONS = Options(lease_s=3.0, budget_s=10.0, retry_for_s=10.0)
PIECES = [f"word{number} " for number in range(20)]
REQUEST = Request(
    kind="prompt_response", tenant="acme", provider="test", model="small", messages=["What do all of them ask?"]
)


def say(*words: object) -> None:
    """One write, with a line of its own also where another process is in the middle of one."""
    os.write(1, f"\n{os.getpid()} {' '.join(map(str, words))}\n".encode())


async def main(url: str, how: str, callers: int, then: str) -> None:
    async def stream(draft: Draft) -> Any:
        say("produces")
        for number, piece in enumerate(PIECES):
            await draft.append(piece)
            if number == 5 and then == "hang":
                await asyncio.sleep(0.2)
                say("hangs")
                await asyncio.Event().wait()
            await asyncio.sleep(0.01)
        return {"pieces": len(PIECES)}

    async def compute() -> Any:
        say("produces")
        await asyncio.sleep(0.3)
        if then == "hang":
            say("hangs")
            await asyncio.Event().wait()
        return PIECES

    async with AsyncCache(url, options=OPTIONS) as cache:

        async def ask() -> None:
            if how == "stream":
                answer = await cache.get_or_stream(REQUEST, stream)
                say("has", answer.level)
                whole = "".join([piece async for piece in answer])
                assert await answer.text() == whole
                say("got", answer.level, whole == "".join(PIECES) and answer.usage == {"pieces": 20})
            else:
                found = await cache.get_or_compute(REQUEST, compute)
                say("got", found.level, found.value == PIECES)

        await asyncio.gather(*(ask() for _ in range(callers)))
        await wait_until(lambda: not cache.stats().flights, "everything has landed")
        say("takeovers", cache.stats().kinds["prompt_response"].takeovers)


def serve(url: str) -> None:
    say("ready")
    while line := sys.stdin.readline():
        how, callers, then = line.split()
        if not os.fork():
            status = 1
            try:
                asyncio.run(main(url, how, int(callers), then))
                status = 0
            finally:
                os._exit(status)
    while True:
        try:
            say("ended", os.wait()[1])
        except ChildProcessError:
            return


if __name__ == "__main__":
    serve(sys.argv[1])
