"""Many deadlines of one length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FakeClock
from gateway.edge import Deadlines

steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 5)),
        st.tuples(st.just("met"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.integers(0, 6)),
    ),
    max_size=40,
)


@given(steps)
def test_what_is_not_met_in_time_expires_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    deadlines: Deadlines[int] = Deadlines(clock, 5.0)
    model: dict[int, float] = {}
    for what, number in steps:
        if what == "start":
            deadlines.start(number)
            model.pop(number, None)
            model[number] = clock.now + 5.0
        elif what == "met":
            deadlines.met(number)
            model.pop(number, None)
        else:
            clock.advance(number)
            expected = [thing for thing, due in model.items() if due <= clock.now]
            assert deadlines.expire() == expected
            for thing in expected:
                del model[thing]
        assert len(deadlines) == len(model)
        assert all((number in deadlines) == (number in model) for number in range(6))


def test_a_deadline_that_is_started_again_has_its_whole_time_again() -> None:
    clock = FakeClock()
    deadlines: Deadlines[str] = Deadlines(clock, 5.0)
    deadlines.start("a")
    clock.advance(4)
    deadlines.start("a")
    clock.advance(4)
    assert deadlines.expire() == []
    clock.advance(1)
    assert deadlines.expire() == ["a"]
