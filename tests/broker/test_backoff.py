"""Waiting after failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.backoff import Backoff

shares = st.floats(0, 1, exclude_max=True)


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.lists(shares, min_size=1, max_size=100))
def test_each_delay_is_a_share_of_what_doubles_up_to_the_cap(base_s: float, cap_s: float, random: list[float]) -> None:
    backoff = Backoff(base_s, cap_s, iter(random).__next__)
    for failures, share in enumerate(random):
        delay = backoff.next_delay()
        ceiling = min(cap_s, base_s * 2**failures)
        assert 0 <= delay <= ceiling
        assert abs(delay - share * ceiling) <= 1e-9 * ceiling


def test_a_fleet_does_not_come_back_in_step() -> None:
    """Full jitter: the whole range down to zero, not the upper half of it."""
    assert Backoff(1.0, 8.0, lambda: 0.0).next_delay() == 0.0


def test_after_a_success_waiting_starts_anew() -> None:
    backoff = Backoff(1.0, 8.0, lambda: 0.5)
    assert [backoff.next_delay() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next_delay() == 0.5


def test_a_thousand_failures_overflow_nothing() -> None:
    backoff = Backoff(0.1, 3.0, lambda: 0.5)
    assert [backoff.next_delay() for _ in range(2000)][-1] == 1.5
