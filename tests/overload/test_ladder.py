"""Levels: where they begin, where they end, and that nothing flaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Memory
from gateway.overload import Ladder, Level

THRESHOLDS = (0.68, 0.765, 0.85, 0.9, 0.95)


def ladder(**settings: float) -> Ladder:
    return Ladder(THRESHOLDS, **({"hysteresis": 0.05, "stalled_at": 20.0} | settings))


def test_the_defaults_are_these() -> None:
    assert Memory().thresholds == pytest.approx(THRESHOLDS)


def test_up_and_down_step_by_step() -> None:
    steps = ladder()
    shares = [0.1, 0.68, 0.77, 0.85, 0.9, 0.95, 1.2, 0.9, 0.89, 0.84, 0.79, 0.71, 0.62, 0.1]
    assert [steps.look(share, 0.0) for share in shares] == [0, 1, 2, 3, 4, 5, 5, 5, 4, 3, 2, 1, 0, 0]


def test_it_goes_as_far_as_it_has_to_at_once() -> None:
    steps = ladder()
    assert steps.look(0.97, 0.0) is Level.DRAIN
    assert steps.look(0.1, 0.0) is Level.NORMAL


def test_around_a_threshold_nothing_flaps() -> None:
    steps = ladder()
    around = [0.85, 0.849, 0.851, 0.81, 0.801, 0.86, 0.82] * 5
    assert {steps.look(share, 0.0) for share in around} == {Level.REFUSE}
    assert steps.look(0.799, 0.0) is Level.HALVE
    assert {steps.look(share, 0.0) for share in (0.80, 0.84, 0.849)} == {Level.HALVE}


@given(st.lists(st.floats(0, 1.5)))
def test_a_level_never_changes_back_without_a_move_of_more_than_the_hysteresis(shares: list[float]) -> None:
    steps = ladder()
    level, turned, direction = Level.NORMAL, 0.0, 0
    for share in shares:
        now = steps.look(share, 0.0)
        if now != level:
            went = 1 if now > level else -1
            if direction and went != direction:
                assert abs(share - turned) > 0.0499
            direction, level, turned = went, now, share
        if direction:
            turned = max(turned, share) if direction > 0 else min(turned, share)


def test_stalls_make_it_one_worse() -> None:
    assert ladder().look(0.1, 20.0) is Level.SHRINK
    assert ladder().look(0.8, 50.0) is Level.REFUSE
    assert ladder().look(0.86, 50.0) is Level.CLOSE


def test_stalls_alone_never_drain() -> None:
    assert ladder().look(0.94, 100.0) is Level.CLOSE
    assert ladder().look(0.95, 100.0) is Level.DRAIN


def test_stalls_do_not_flap_either() -> None:
    steps = ladder()
    assert [steps.look(0.1, stalled) for stalled in (19.9, 20.0, 19.0, 10.0, 9.9, 19.0)] == [0, 1, 1, 1, 0, 0]


def test_stalls_may_be_left_out() -> None:
    assert ladder(stalled_at=0.0).look(0.1, 100.0) is Level.NORMAL


def test_every_level_says_what_it_does() -> None:
    assert len({level.does for level in Level}) == len(Level)
