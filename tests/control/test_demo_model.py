"""The demo's model: the same question has the same answer, in tokens, at the pace of one that thinks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.demo_model import answer, compose, tokens


class Naps:
    """Sleep that takes no time, and remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def said(question: str, naps: Naps) -> list[str]:
    return [token async for token in answer(question, naps)]


@given(st.text(min_size=1, max_size=200))
def test_nothing_is_lost_between_text_and_tokens(question: str) -> None:
    text = compose(question)
    assert "".join(tokens(text)) == text.lstrip()
    assert question in text


async def test_an_answer_follows_from_its_question_alone() -> None:
    assert await said("Why is the sky blue?", Naps()) == await said("Why is the sky blue?", Naps())
    assert compose("Why is the sky blue?") != compose("Why is the sea blue?")


async def test_it_takes_as_long_as_a_person_likes_to_watch() -> None:
    naps = Naps()
    found = await said("Why is the sky blue?", naps)
    assert len(naps.seconds) == len(found) + 1
    assert 8 < sum(naps.seconds) < 30
    assert max(naps.seconds) < 1


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("Why is the sky blue?", "5 words and 15 letters. The longest is “blue”"),
        ("Warum?", "one word and 5 letters"),
        ("b a c a", "like this: a, b, c. "),
        ("Grüße aus Köln", "“eßürg”"),
        ("{question} {0} %s", "“{question} {0} %s”"),
        ("?!", "no word in it"),
    ],
)
def test_it_speaks_of_what_was_asked(question: str, says: str) -> None:
    assert says in compose(question)
