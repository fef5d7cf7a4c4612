"""Asks a small model that runs here: the first time it thinks, word by word; the same question again is a cache hit.

    python -m gateway.cache.examples.ask gateway.toml ada "Why is the sky blue?"

The file is the gateway's own configuration. Run it twice, or in two terminals at once: the second shows the words of
the first. Clients of the gateway see them, too: user ada on the channel that is printed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gateway.cache import AnswerFailed, AsyncCache, Draft, Request

PAUSE_S = 0.05
ANSWER = "A model that asks itself {question} thinks for a while, and then it says the same to everybody."


async def main(config: str, user: str, question: str) -> int:
    """Exit status: 0 = there is an answer, 1 = the model has failed."""
    request = Request(
        kind="prompt_response",
        tenant=user,  # an answer for one user only; an organisation shares by its own name
        provider="example",
        model="parrot",
        parameters={"temperature": 0},
        messages=[{"role": "user", "content": question}],
    )

    async def produce(draft: Draft) -> Any:
        words = ANSWER.format(question=question).split(" ")
        for word in words:
            await asyncio.sleep(PAUSE_S)
            await draft.append(f"{word} ")
        return {"words": len(words)}

    async with AsyncCache.from_config(config) as cache:
        answer = await cache.get_or_stream(request, produce, owner=user)
        sys.stdout.write(f"{answer.level} {answer.channel}\n")
        try:
            async for text in answer:
                sys.stdout.write(text)
                sys.stdout.flush()
        except AnswerFailed as error:
            sys.stderr.write(f"no answer: {error}\n")
            return 1
        sys.stdout.write(f"\n{answer.usage}\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:4])))
