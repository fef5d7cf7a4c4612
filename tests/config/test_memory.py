"""[memory]: thresholds that follow from one another, and those that contradict."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import Memory
from gateway.config.base import Section


def test_what_is_left_open_follows_from_refuse_at() -> None:
    assert Memory(refuse_at=0.5).thresholds == pytest.approx((0.4, 0.45, 0.5, 2 / 3, 5 / 6))
    assert Memory(refuse_at=0.99, hysteresis=0.01).thresholds == pytest.approx(
        (0.792, 0.891, 0.99, 0.9933, 0.9967), abs=1e-4
    )


def test_what_is_set_counts() -> None:
    settings = Memory(shrink_at=0.1, halve_at=0.2, refuse_at=0.3, close_at=0.4, drain_at=0.5)
    assert settings.thresholds == (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.mark.parametrize("refuse_at", [0.01, 0.1, 0.5, 0.85, 0.99, 0.999])
def test_any_refuse_at_alone_is_a_ladder(refuse_at: float) -> None:
    steps = Memory(refuse_at=refuse_at, hysteresis=0.001).thresholds
    assert list(steps) == sorted(set(steps))
    assert 0 < steps[0] < steps[-1] < 1


@pytest.mark.parametrize(
    "settings",
    [
        {"shrink_at": 0.8},
        {"halve_at": 0.85},
        {"halve_at": 0.1},
        {"close_at": 0.8},
        {"close_at": 0.96},
        {"drain_at": 0.89},
        {"refuse_at": 0.8, "close_at": 0.7},
    ],
)
def test_steps_must_ascend(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="must ascend, and are 0"):
        Memory.model_validate(settings)


def test_a_step_must_be_able_to_end() -> None:
    with pytest.raises(ValidationError, match=r"hysteresis must be smaller than the first step, 0\.04"):
        Memory(refuse_at=0.05)


def test_it_is_a_closed_section() -> None:
    assert issubclass(Memory, Section)
    with pytest.raises(ValidationError, match="Extra inputs"):
        Memory.model_validate({"refuse": 0.5})
