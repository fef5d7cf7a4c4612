"""Copies in memory: bounded, the least used goes first, and none outlives what it is a copy of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.local import OVERHEAD_BYTES, LocalCopies
from gateway.cache.values import Value
from gateway.clock import FakeClock


def copies(clock: FakeClock | None = None, *, entries: int = 100, size: int = 100_000) -> LocalCopies:
    return LocalCopies((clock or FakeClock()).monotonic, max_entries=entries, max_bytes=size, fresh_s=10)


def value(size: int) -> Value:
    return Value("value", b"x" * size)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2000), st.booleans()), max_size=60))
def test_never_more_entries_or_bytes_than_allowed(steps: list[tuple[str, int, bool]]) -> None:
    local = copies(entries=5, size=4000)
    for key, size, reads in steps:
        if reads:
            local.get(key)
        else:
            local.put(key, value(size), 60)
        held = [copy for name in "abcdefgh" if (copy := local.get(name)) is not None]
        assert len(held) == len(local) <= 5
        assert local.bytes == sum(len(copy.value.payload) + OVERHEAD_BYTES for copy in held) <= 4000


def test_the_one_that_was_used_longest_ago_goes_first() -> None:
    local = copies(entries=2)
    local.put("a", value(1), 60)
    local.put("b", value(1), 60)
    local.get("a")
    local.put("c", value(1), 60)
    assert [local.get(key) is not None for key in "abc"] == [True, False, True]


def test_a_value_larger_than_all_may_be_pushes_nothing_out() -> None:
    local = copies(size=1000)
    local.put("a", value(100), 60)
    local.put("b", value(1000), 60)
    assert local.get("a") is not None
    assert local.get("b") is None


def test_a_copy_is_fresh_for_a_while_and_there_until_its_time_is_over() -> None:
    clock = FakeClock()
    local = copies(clock)
    local.put("a", value(1), 60)
    local.put("short", value(1), 5)
    copy = local.get("a")
    assert copy is not None
    assert local.is_fresh(copy)
    clock.advance(10)
    assert not local.is_fresh(copy)
    assert local.get("a") is not None
    assert local.get("short") is None
    clock.advance(50)
    assert local.get("a") is None
    assert (len(local), local.bytes) == (0, 0)
