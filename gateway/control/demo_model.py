"""A stand-in for a language model: it has read nothing but the question, and answers at the pace of one that thinks.

The text follows from the question alone, so that the same question has the same answer on every machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

THINKING_S: Final = 0.6
"""Before the first token."""
PAUSE_S: Final = (0.045, 0.105)
"""Shortest and longest time between two tokens."""
SENTENCE_S: Final = 0.28
"""What is added after a sentence."""
LISTED: Final = 12
"""Words of the question that are put into order, at most."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_TOKEN: Final = re.compile(r"\S{1,12}\s*")

OPENINGS: Final = (
    "“{question}” is a fine thing to ask somebody who has read nothing else.",
    "So you would like to know: “{question}” I have thought about it for a while.",
    "“{question}” Nobody has ever asked me anything else, in a way.",
)
WITHOUT_WORDS: Final = "I can find no word in it, which leaves me more room than usual."
VOWELS: Final = (
    "Of its letters, {vowels} are vowels; draw your own conclusions.",
    "It takes {vowels} vowels to say it aloud, and some courage.",
)
ENDINGS: Final = (
    "When I am done, ask the very same thing again: I shall not have to think twice.",
    "Once this is finished, put the same question again, and watch how long it takes then.",
)
JOURNEY: Final = (
    "More interesting is how these words came to you. Each piece of this answer was written once, into a token stream "
    "that numbers its records, and went from there to everybody who watches: this tab, a second one, the phone in your "
    "pocket. Reload the page now, if you like. What is here already comes back in one piece, and the rest goes on "
    "where it was, because the stream, and not your browser, is where the answer lives."
)


async def answer(question: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncIterator[str]:
    """The answer, token by token."""
    await sleep(THINKING_S)
    digest = hashlib.sha256(question.encode()).digest()
    shortest, longest = PAUSE_S
    for index, token in enumerate(tokens(compose(question))):
        yield token
        pause = shortest + (longest - shortest) * digest[index % len(digest)] / 255
        await sleep(pause + (SENTENCE_S if token.rstrip().endswith((".", "?", "!", ":")) else 0))


def tokens(text: str) -> list[str]:
    """The text in pieces: words, of which long ones are several."""
    return _TOKEN.findall(text)


def compose(question: str) -> str:
    """The whole answer."""
    digest = hashlib.sha256(question.encode()).digest()
    words = _WORD.findall(question)
    opening = OPENINGS[digest[0] % len(OPENINGS)].format(question=question)
    ending = ENDINGS[digest[2] % len(ENDINGS)]
    facts = _facts(words, VOWELS[digest[1] % len(VOWELS)]) if words else WITHOUT_WORDS
    return f"{opening}\n\n{facts}\n\n{JOURNEY}\n\n{ending}"


def _facts(words: list[str], about_vowels: str) -> str:
    longest = max(words, key=len)
    letters = sum(map(len, words))
    vowels = sum(letter in "aeiouyäöüáéíóúàèìòùâêîôû" for word in words for letter in word.lower())
    ordered = ", ".join(sorted(dict.fromkeys(word.lower() for word in words[:LISTED])))
    count = "one word" if len(words) == 1 else f"{len(words)} words"
    return (
        f"What I can say for certain: it has {count} and {letters} letters. The longest is “{longest}”, which is "
        f"“{longest[::-1].lower()}” to somebody who comes from the other side. In alphabetical order it goes like "
        f"this: {ordered}. {about_vowels.format(vowels=vowels)}"
    )
